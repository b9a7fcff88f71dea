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
