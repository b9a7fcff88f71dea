/** The mounted config file: checked, and swapped whole. A bad one is reported and keeps the last good one. */
import { watch } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { SidecarConfigSchema } from '@farebox/crds/sidecar-config.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'

/** A mounted ConfigMap changes by a symlink swap, which file events may miss: look this often as well. */
const POLL_MS = 1_000
const CONFIG_BYTES_MAX = 4 * 1024 * 1024

export type ConfigReading =
  | { readonly status: 'ok'; readonly config: SidecarConfig }
  | { readonly status: 'invalid'; readonly reason: string }

/** Text -> config, or what is wrong with it, by field. */
export function readConfig(text: string): ConfigReading {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    return { status: 'invalid', reason: `not JSON: ${error instanceof Error ? error.message : String(error)}` }
  }
  const parsed = SidecarConfigSchema.safeParse(json)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    return { status: 'invalid', reason: issue === undefined ? 'not a config' : `${issue.path.join('.') || 'config'}: ${issue.message}` }
  }
  const config = parsed.data
  for (const tier of config.tiers.allowed) {
    if (config.contracts[tier] === undefined)
      return { status: 'invalid', reason: `contracts.${tier}: must be there, since tiers.allowed names it` }
  }
  if (!config.tiers.allowed.includes(config.tiers.default))
    return { status: 'invalid', reason: 'tiers.default: must be one of tiers.allowed' }
  return { status: 'ok', config }
}

export interface ConfigListener {
  accepted(config: SidecarConfig): void
  rejected(reason: string): void
}

/** Follows the file for ever. Tells the listener about each new content, once; a version below the one in force is ignored. */
export class ConfigFile {
  readonly #path: string
  readonly #listener: ConfigListener
  #seen = ''
  #version = 0
  #reading: Promise<void> = Promise.resolve()
  #stop: (() => void) | null = null

  constructor(path: string, listener: ConfigListener) {
    this.#path = path
    this.#listener = listener
  }

  /** Reads the file once, then watches. A missing file is waited for. */
  async start(): Promise<void> {
    await this.#check()
    const timer = setInterval(() => this.#soon(), POLL_MS)
    timer.unref()
    const watcher = watch(dirname(this.#path), () => this.#soon())
    watcher.unref()
    watcher.on('error', () => undefined) // the folder was replaced: the poll goes on
    this.#stop = () => {
      clearInterval(timer)
      watcher.close()
    }
  }

  stop(): void {
    this.#stop?.()
  }

  #soon(): void {
    this.#reading = this.#reading.then(() => this.#check())
  }

  async #check(): Promise<void> {
    const text = await this.#read()
    if (text === null || text === this.#seen) return
    this.#seen = text
    const reading = readConfig(text)
    if (reading.status === 'invalid') this.#listener.rejected(reading.reason)
    else if (reading.config.version >= this.#version) {
      this.#version = reading.config.version
      this.#listener.accepted(reading.config)
    }
  }

  async #read(): Promise<string | null> {
    try {
      const { size } = await stat(this.#path)
      if (size > CONFIG_BYTES_MAX) return `{"tooLarge":${size}}`
      return await readFile(this.#path, 'utf8')
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
      throw error
    }
  }
}
