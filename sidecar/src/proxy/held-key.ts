/**
 * A key that is held here goes to its upstream, which may show it in what it answers: in a header, or in an error about it. The app is
 * not to have it. Answers that are no errors are not searched: that would hold them up, and an upstream that means to give the key
 * away has it already.
 */
import { WORTHLESS_KEY } from '@farebox/crds/cluster.ts'

/** What `text` is with the worthless key in the place of each of `secrets`: the key that is held, and the values of headers that are. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  // The longest first: one may be the beginning of another.
  return secrets.toSorted((a, b) => b.length - a.length).reduce(withoutKey, text)
}

function withoutKey(text: string, key: string): string {
  const quoted = JSON.stringify(key).slice(1, -1)
  const bare = text.replaceAll(key, WORTHLESS_KEY)
  return quoted === key ? bare : bare.replaceAll(quoted, WORTHLESS_KEY)
}

/** The same of bytes, whatever they are. */
export function bytesWithoutSecrets(bytes: Buffer, secrets: readonly string[]): Buffer {
  return secrets.length === 0 ? bytes : Buffer.from(withoutSecrets(bytes.toString('latin1'), secrets), 'latin1')
}

/** An error body is kept up to this size, to be looked into; a longer one passes on, and what comes after this is not searched. */
export const ERROR_BODY_BYTES_MAX = 64 * 1024
