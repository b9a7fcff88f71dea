/** The mounted config file: checked, and swapped whole. A bad one is reported and keeps the last good one. */
import { watch } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
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
  /** Of the file that was read last: one that has not changed is not read again. */
  #stamp = ''
  #version = 0
  #trouble = ''
  #isChecking = false
  #isCheckWanted = false
  #stop: (() => void) | null = null

  constructor(path: string, listener: ConfigListener) {
    this.#path = path
    this.#listener = listener
  }

  /** Reads the file once, then watches. A missing file is waited for; one that cannot be read at the start rejects. */
  async start(): Promise<void> {
    await this.#check()
    const timer = setInterval(() => this.#soon(), POLL_MS)
    timer.unref()
    const name = basename(this.#path)
    const watcher = watch(dirname(this.#path), (_event, changed) => {
      // Other files of the folder may change all the time. Names with two dots are what a ConfigMap's swap is made of.
      if (changed === null || changed === name || changed.startsWith('..')) this.#soon()
    })
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

  /** However often it is called while a check is under way, one more follows. */
  #soon(): void {
    this.#isCheckWanted = true
    if (!this.#isChecking) void this.#checkWhileWanted()
  }

  async #checkWhileWanted(): Promise<void> {
    this.#isChecking = true
    while (this.#isCheckWanted) {
      this.#isCheckWanted = false
      try {
        await this.#check()
      } catch (error) {
        this.#reject(`cannot be read: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    this.#isChecking = false
  }

  async #check(): Promise<void> {
    const text = await this.#read()
    if (text === null || text === this.#seen) return
    this.#seen = text
    const reading = readConfig(text)
    this.#trouble = ''
    if (reading.status === 'invalid') this.#reject(reading.reason)
    else if (reading.config.version >= this.#version) {
      this.#version = reading.config.version
      this.#listener.accepted(reading.config)
    }
  }

  /** The same trouble, found again at each look, is told once. */
  #reject(reason: string): void {
    if (reason === this.#trouble) return
    this.#trouble = reason
    this.#listener.rejected(reason)
  }

  /** Null when the file is absent, or has not changed. */
  async #read(): Promise<string | null> {
    try {
      const { size, mtimeNs, ctimeNs, ino } = await stat(this.#path, { bigint: true })
      const stamp = `${ino} ${size} ${mtimeNs} ${ctimeNs}`
      if (stamp === this.#stamp) return null
      const text = size > CONFIG_BYTES_MAX ? `{"tooLarge":${size}}` : await readFile(this.#path, 'utf8')
      this.#stamp = stamp
      return text
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
      throw error
    }
  }
}
