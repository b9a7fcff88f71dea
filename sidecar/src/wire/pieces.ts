/**
 * Bytes that are kept as they come, until they are whole. Whoever sends them decides how many there are to a piece, and a buffer takes some
 * hundred bytes beside its own: short pieces are copied together, so that what is kept costs about what was counted.
 */

/** A piece from this size on is kept as it is. */
const LONG_BYTES_MIN = 16 * 1024
/** Short ones go into blocks, each twice as large as the one before: no more is unused than what is used. */
const BLOCK_BYTES_MIN = 1024
const BLOCK_BYTES_MAX = 64 * 1024

export class Pieces {
  #parts: Buffer[] = []
  /** Filled up to `#filledBytes`. */
  #block: Buffer = NONE
  #filledBytes = 0
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  /** In order; the last one may be a view of a block that is still being filled behind it. */
  get parts(): readonly Buffer[] {
    return this.#filledBytes === 0 ? this.#parts : [...this.#parts, this.#block.subarray(0, this.#filledBytes)]
  }

  /** True: keeps the piece itself, and nobody may write into it any more. False: it was copied. */
  add(piece: Buffer): boolean {
    const isKept = this.#isKept(piece)
    this.#bytes += piece.length
    if (isKept) {
      this.#endBlock()
      this.#block = NONE
      this.#parts.push(piece)
    } else this.#copy(piece)
    return isKept
  }

  /** The same of what may be written into. */
  addCopy(view: Buffer): void {
    this.add(this.#isKept(view) ? copyOf(view) : view)
  }

  /** All of it, and `last` behind it, in one buffer; where one piece is all, that itself. */
  whole(last: Buffer | null = null): Buffer {
    const { parts } = this
    const [only] = parts
    if (only !== undefined && parts.length === 1 && last === null) return only
    return Buffer.concat(last === null ? parts : [...parts, last])
  }

  /** Keeps the first parts that come to so many bytes, if there are as many. */
  cutAfter(bytes: number): void {
    const { parts } = this
    let kept = 0
    this.clear()
    for (; kept < parts.length && this.#bytes < bytes; kept += 1) this.#bytes += parts[kept]?.length ?? 0
    this.#parts = parts.slice(0, kept)
  }

  clear(): void {
    this.#parts = []
    this.#block = NONE
    this.#filledBytes = 0
    this.#bytes = 0
  }

  /** The first one is, however short: most of what comes, comes in one. */
  #isKept({ length }: Buffer): boolean {
    return length >= LONG_BYTES_MIN || this.#bytes === 0
  }

  #copy(piece: Buffer): void {
    for (let at = 0; at < piece.length;) {
      if (this.#filledBytes === this.#block.length) {
        this.#endBlock()
        this.#block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES_MAX, Math.max(BLOCK_BYTES_MIN, 2 * this.#block.length)))
      }
      const copied = piece.copy(this.#block, this.#filledBytes, at)
      this.#filledBytes += copied
      at += copied
    }
  }

  #endBlock(): void {
    if (this.#filledBytes > 0) this.#parts.push(this.#block.subarray(0, this.#filledBytes))
    this.#filledBytes = 0
  }
}

/** In memory of its own: a slab of Node's pool would stay for as long as the shortest piece in it. */
function copyOf(view: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(view.length)
  view.copy(copy)
  return copy
}

const NONE = Buffer.alloc(0)
