/** A watch's body as lines: one JSON value each, cut anywhere by the network. */

/** Far beyond what etcd keeps as one object. */
const LINE_BYTES_MAX = 32 * 1024 * 1024
const LINE_FEED = 0x0a

/** Holds the beginning of a line whose end has not come. One for each watch. */
export class WatchLines {
  #parts: Buffer[] = []
  #bytes = 0

  /** The lines that end in this chunk, without their ends. Throws when a line is longer than any object can be. */
  take(chunk: Buffer): readonly string[] {
    const lines: string[] = []
    let start = 0
    for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, start)) {
      const last = chunk.subarray(start, end)
      // Only whole lines are decoded: a character may be cut as well.
      const line = this.#parts.length === 0 ? last.toString() : Buffer.concat([...this.#parts, last]).toString()
      this.#parts = []
      this.#bytes = 0
      start = end + 1
      if (line.trim() !== '') lines.push(line)
    }
    if (start < chunk.length) {
      this.#parts.push(chunk.subarray(start))
      this.#bytes += chunk.length - start
      if (this.#bytes > LINE_BYTES_MAX) throw new Error(`a line of the watch is longer than ${LINE_BYTES_MAX} bytes`)
    }
    return lines
  }
}
