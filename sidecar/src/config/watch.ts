/** The mounted config file: checked, and swapped whole. A bad one is reported and keeps the last good one. */
import { watch } from 'node:fs'
import type { FSWatcher } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { readDelivered } from '@farebox/crds/sidecar-config.ts'
import * as z from 'zod'
import { messageOf } from '../error-text.ts'
import type { ReadConfig, RefusedConfig } from './in-force.ts'

/** A mounted ConfigMap changes by a symlink swap, which file events may miss: look this often as well. */
const POLL_MS = 1_000
export const CONFIG_BYTES_MAX = 4 * 1024 * 1024

export type ConfigReading = ({ readonly status: 'ok' } & ReadConfig) | ({ readonly status: 'invalid' } & RefusedConfig)

/** Text -> config, be it of a later version with more fields, or what is wrong with it, by field. */
export function readConfig(text: string): ConfigReading {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    return invalid(null, `not JSON: ${messageOf(error)}`)
  }
  const { result: parsed, later } = readDelivered(json)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    return invalid(json, issue === undefined ? 'not a config' : `${issue.path.join('.') || 'config'}: ${issue.message}`)
  }
  const config = parsed.data
  for (const tier of config.tiers.allowed) {
    if (config.contracts[tier] === undefined) return invalid(json, `contracts.${tier}: must be there, since tiers.allowed names it`)
  }
  if (!config.tiers.allowed.includes(config.tiers.default)) return invalid(json, 'tiers.default: must be one of tiers.allowed')
  return { status: 'ok', config, later }
}

/** What even a bad config may say of itself, so that whoever wrote it knows which one is meant. */
const NamedSchema = z.object({ version: z.int().nullable().catch(null), hash: z.string().max(64).nullable().catch(null) })

function invalid(json: unknown, reason: string): ConfigReading {
  const named = NamedSchema.safeParse(json)
  return { status: 'invalid', version: null, hash: null, ...(named.success ? named.data : {}), reason }
}

export interface ConfigFileListener {
  accepted(read: ReadConfig): void
  rejected(refused: RefusedConfig): void
  /** The file is looked at once a second, but not followed between. Told once. */
  unwatched(reason: string): void
}

/** Follows the file for ever. Tells the listener about each new content, once; a version below the one in force is ignored. */
export class ConfigFile {
  readonly #path: string
  readonly #listener: ConfigFileListener
  #seen = ''
  /** Of the file that was read last: one that has not changed is not read again. */
  #stamp = ''
  #version = 0
  #trouble = ''
  #isChecking = false
  #isCheckWanted = false
  #stop: (() => void) | null = null

  constructor(path: string, listener: ConfigFileListener) {
    this.#path = path
    this.#listener = listener
  }

  /** Reads the file once, then watches. A missing file is waited for; one that cannot be read at the start rejects. */
  async start(): Promise<void> {
    await this.#check()
    const timer = setInterval(() => this.#soon(), POLL_MS)
    timer.unref()
    const watcher = this.#watchFolder()
    this.#stop = () => {
      clearInterval(timer)
      watcher?.close()
    }
  }

  /** Null where there is no folder to watch yet, or the machine has no watch left to give (`EMFILE`, `ENOSPC`): the poll finds what comes. */
  #watchFolder(): FSWatcher | null {
    const name = basename(this.#path)
    try {
      const watcher = watch(dirname(this.#path), (_event, changed) => {
        // Other files of the folder may change all the time. Names with two dots are what a ConfigMap's swap is made of.
        if (changed === null || changed === name || changed.startsWith('..')) this.#soon()
      })
      watcher.unref()
      watcher.on('error', () => undefined) // the folder was replaced: the poll goes on
      return watcher
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) this.#listener.unwatched(messageOf(error))
      return null
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
        this.#reject({ version: null, hash: null, reason: `cannot be read: ${messageOf(error)}` })
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
    if (reading.status === 'invalid') this.#reject(reading)
    else if (reading.config.version >= this.#version) {
      this.#version = reading.config.version
      this.#listener.accepted(reading)
    }
  }

  /** The same trouble, found again at each look, is told once. */
  #reject({ version, hash, reason }: RefusedConfig): void {
    if (reason === this.#trouble) return
    this.#trouble = reason
    this.#listener.rejected({ version, hash, reason })
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
