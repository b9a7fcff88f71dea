/**
 * Gives memory back before V8 does. V8 frees the bytes of a buffer when it collects the buffer, and what has waited for a
 * provider is old by then: old objects are collected when much has come of them, which a few that hold 100 KB each are not.
 * Until then each turn takes memory that was never used before.
 */

/** Smaller ones cost no less to release than they take. */
const RELEASED_BYTES_MIN = 4_096

/**
 * Frees the bytes of a buffer that is alone in its memory; a view of something larger stays as it is. Whoever still looks at
 * what was released finds it empty: nobody may, and no write of it may be under way.
 */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes
  if (bytes.length < RELEASED_BYTES_MIN || bytes.length !== buffer.byteLength || !(buffer instanceof ArrayBuffer)) return
  buffer.transfer(0)
}

/** Of smaller bodies V8 collects what was parsed in its own time. */
const COUNTED_BYTES_MIN = 512 * 1024
/** So much of large bodies is parsed before what is left of that is collected. */
const PARSED_BYTES_MAX = 16 * 1024 * 1024
/** A collection stops all streams for its time. */
const COLLECTED_EVERY_MS = 1_000
let parsedBytes = 0
let collectedMs = Number.NEGATIVE_INFINITY

/**
 * What was parsed of this body, nobody refers to any more. Of large ones that is several times their size, and V8 marks at its leisure: a few
 * at once would fill the memory of a container first. A collection takes as long as parsing a few of those bodies (20 to 30 ms).
 */
export function releaseParsed(body: Uint8Array): void {
  if (body.length < COUNTED_BYTES_MIN) return
  parsedBytes += body.length
  const nowMs = performance.now()
  if (parsedBytes < PARSED_BYTES_MAX || nowMs - collectedMs < COLLECTED_EVERY_MS) return
  parsedBytes = 0
  collectedMs = nowMs
  globalThis.gc?.() // there with `--expose-gc`
}
