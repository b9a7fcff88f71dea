/** Values of command-line options, read once; what is wrong is told by the option's name. */
import { formatAddress } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { InvalidArgumentError, Option } from 'commander'
import { parseAddress } from '../laptop/addresses.ts'

/** Of the data plane of a sidecar on this machine. */
export const DEFAULT_URL = 'http://127.0.0.1:4180'
export const DEFAULT_LISTEN: Address = { host: '127.0.0.1', port: 4180 }
export const DEFAULT_ADMIN: Address = { host: '127.0.0.1', port: 4181 }

export function addressFlag(flags: string, description: string, usual: Address): Option {
  return new Option(flags, description).default(usual, formatAddress(usual)).argParser((text): Address => {
    const address = parseAddress(text)
    if (address === null) throw new InvalidArgumentError('It must be HOST:PORT, such as 127.0.0.1:4180.')
    return address
  })
}

/** `-f PATH`, repeated: of one command all that it reads. */
export function manifestsFlag(): Option {
  const usual: readonly string[] = ['.']
  return new Option('-f, --file <path>', 'folder or file of manifests; may be repeated; -: standard input')
    .default(usual, '.')
    .argParser((text, before: readonly string[]) => (before === usual ? [text] : [...before, text]))
}

/** For `argParser`: a second one would take the place of the first in silence. */
export function givenOnce(text: string, before: string | undefined): string {
  if (before !== undefined) throw new InvalidArgumentError('It may be given once: one folder that holds them all.')
  return text
}

/** `--upstream NAME=URL`, repeated; absent: none. */
export function upstreamFlag(description: string): Option {
  return new Option('--upstream <name=url>', description).argParser((text, before: ReadonlyMap<string, string> | undefined) => {
    const at = text.indexOf('=')
    if (at < 1) throw new InvalidArgumentError('It must be NAME=URL, such as openai=https://api.openai.com/v1.')
    return new Map(before).set(text.slice(0, at), urlOption(text.slice(at + 1)))
  })
}

export function urlOption(text: string): string {
  if (!/^https?:\/\/[^\s?#@]+$/.test(text) || !URL.canParse(text)) throw new InvalidArgumentError('It must be an http or https URL.')
  return text.replace(/\/+$/, '')
}

/** Of a command whose formats `--output` does not choose: who wants one there gets no file of that name. */
export function fileOption(text: string): string {
  if (!OTHERS_FORMATS.has(text)) return text
  const format = text === 'csv' ? 'csv' : 'ndjson'
  throw new InvalidArgumentError(`It must be a file: did you mean --format ${format}? For a file of that name: --output ./${text}.`)
}

/** What `--output` takes elsewhere, and what `--format` takes here. */
const OTHERS_FORMATS: ReadonlySet<string> = new Set(['csv', 'ndjson', 'json', 'table', 'text'])

export function countOption(text: string): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < 1 || count > 100_000) throw new InvalidArgumentError('It must be a number from 1 to 100000.')
  return count
}

/** Of ids, which have 256 characters at most. */
export function suffixOption(text: string): string {
  if (!/^[!-~]{0,64}$/.test(text)) throw new InvalidArgumentError('It must be at most 64 printable ASCII characters, without blanks.')
  return text
}

/** Rows of a list. */
export function rowsOption(text: string): number {
  const rows = Number(text)
  if (!/^\d+$/.test(text) || rows < 1 || rows > 1_000) throw new InvalidArgumentError('It must be a number from 1 to 1000.')
  return rows
}

/** Milliseconds, 0 to a minute. */
export function delayOption(text: string): number {
  const delayMs = Number(text)
  if (!/^\d+$/.test(text) || delayMs > 60_000) throw new InvalidArgumentError('It must be a number of milliseconds from 0 to 60000.')
  return delayMs
}

/** Sidecars beside each other on one machine. */
export function replicasOption(text: string): number {
  const count = Number(text)
  if (!/^\d+$/.test(text) || count < 1 || count > 8) throw new InvalidArgumentError('It must be a number from 1 to 8.')
  return count
}
