/**
 * The journal of the embedded store: what each tick of the event loop changed, one commit a line, appended to a plain
 * file. What was written survives a killed process; a line that was cut by it was answered to nobody, and ends the journal.
 * A commit that is long is a record, and a line, a piece, so that who reads it needs little memory; without the last of them there
 * was none. The file is begun anew from time to time; a part whose commits are all in the tables is deleted.
 */
import { closeSync, ftruncateSync, openSync, readdirSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Values } from './rows.ts'

/** One commit, or a piece of it: the new images of all rows that it changed, by table. */
export interface JournalRecord {
  /** Counts records, without a gap. */
  readonly sequence: number
  /** What the store's clock showed. */
  readonly clockMs: number
  /** The commit does not end here, but with a later record. */
  readonly goesOn?: true
  readonly rows: JournalRows
}
type JournalRows = readonly (readonly [table: string, images: readonly Values[]])[]

/** A part is closed when it is this long. */
const PART_BYTES = 8 * 1024 * 1024
const READ_BYTES = 64 * 1024
/** What some commits and their tables take, and no rest of a page that was begun has. */
const ROOM_BYTES = 256 * 1024
/** A commit of more characters is several records, each with as many at most, or with one row. */
const RECORD_LENGTH_MAX = 512 * 1024
const LINE_END = 0x0a
const SEQUENCE_DIGITS = 16

/** Opens no file before the first commit, and has one open from then on until it is closed. It is written by one process alone. */
export class Journal {
  readonly #file: string
  readonly #partBytes: number
  #descriptor: number | null = null
  #bytes = 0

  /** `file`: of the database, whose neighbours the parts are. */
  constructor(file: string, partBytes = PART_BYTES) {
    this.#file = file
    this.#partBytes = partBytes
  }

  /**
   * All or nothing. Returns the sequence of the last record that it took. Throws what the file system says; then the journal is as
   * before.
   */
  append(record: JournalRecord): number {
    const text = JSON.stringify(record)
    if (text.length > RECORD_LENGTH_MAX) return this.#appendPieces(record)
    this.#write(record.sequence, Buffer.from(`${text}\n`))
    return record.sequence
  }

  #appendPieces(record: JournalRecord): number {
    const pieces = piecesOf(record)
    this.#write(record.sequence, Buffer.from(pieces.map((piece) => `${JSON.stringify(piece)}\n`).join('')))
    return record.sequence + pieces.length - 1
  }

  /** Where the file is to be written is told each time: what was taken back leaves the descriptor behind the end. */
  #write(sequence: number, lines: Buffer): void {
    if (this.#descriptor === null || this.#bytes >= this.#partBytes) this.#begin(sequence)
    const descriptor = this.#descriptor
    if (descriptor === null) throw new TypeError('a journal that began has a file')
    try {
      let written = 0
      while (written < lines.length) written += writeSync(descriptor, lines, written, lines.length - written, this.#bytes + written)
    } catch (error) {
      takeBack(descriptor, this.#bytes)
      throw error
    }
    this.#bytes += lines.length
  }

  close(): void {
    this.beginAnew()
  }

  /** The next commit begins a part, so that those before it can be deleted when they are in the tables. */
  beginAnew(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor)
    this.#descriptor = null
  }

  /** Throws what the file system says where it has no room for commits, though a short one might still find some in a page that was begun. */
  assertRoom(): void {
    const path = `${this.#file}.room`
    try {
      writeFileSync(path, Buffer.alloc(ROOM_BYTES))
    } finally {
      rmSync(path, { force: true })
    }
  }

  /** A part of this name from before holds nothing that was answered: it is written over. */
  #begin(sequence: number): void {
    const descriptor = openSync(partPath(this.#file, sequence), 'w', 0o600)
    this.close()
    this.#descriptor = descriptor
    this.#bytes = 0
  }
}

/** What cannot be taken back is no commit, for its last line has no end; the next one is written over it. */
function takeBack(descriptor: number, bytes: number): void {
  try {
    ftruncateSync(descriptor, bytes)
  } catch {
    // as above
  }
}

/** Rows keep their order. */
function piecesOf({ sequence, clockMs, rows }: JournalRecord): readonly JournalRecord[] {
  const pieces: [table: string, images: Values[]][][] = [[]]
  let length = 0
  for (const [table, images] of rows)
    for (const values of images) {
      const more = JSON.stringify(values).length + 1
      if (length > 0 && length + more > RECORD_LENGTH_MAX) {
        pieces.push([])
        length = 0
      }
      length += more
      const piece = pieces.at(-1)
      const last = piece?.at(-1)
      if (last?.[0] === table) last[1].push(values)
      else piece?.push([table, [values]])
    }
  return pieces.map((piece, index) => ({
    sequence: sequence + index,
    clockMs,
    ...(index < pieces.length - 1 ? { goesOn: true } : {}),
    rows: piece,
  }))
}

/** A line is longer than its reader has room for. */
export class LongLineError extends Error {
  override readonly name = 'LongLineError'
}

/** Reads records in order, across parts, and deletes the parts that it has read to their end when it is told to. */
export class JournalReader {
  readonly #file: string
  readonly #lineBytesMax: number
  /** The part that is read, how far, and whether a line was found cut: there it ends. */
  #part: OpenPart | null = null
  readonly #pending: ReadRecord[] = []
  #isAhead = true
  /** Of the last record that was given out. */
  #sequence: number

  /** `after`: the records up to this one are known. */
  constructor(file: string, after: number, lineBytesMax = Infinity) {
    this.#file = file
    this.#sequence = after
    this.#lineBytesMax = lineBytesMax
  }

  /**
   * The records after the last ones given, up to `sequence`; fewer where the journal ends before it, or when their lines come to
   * `bytesMax`. Where the journal is being written, it must have got so far: what lies behind it may be taken back. Throws
   * `LongLineError` for a line that is too long.
   */
  readTo(sequence: number, bytesMax = Infinity): readonly JournalRecord[] {
    const records: JournalRecord[] = []
    let bytes = 0
    while (this.#sequence < sequence && bytes < bytesMax) {
      const next = this.#next(sequence)
      if (next === null) break
      const { record } = next
      if (record.sequence <= this.#sequence) continue
      if (record.sequence !== this.#sequence + 1) break // what lay between is lost: what follows hangs in the air
      this.#sequence = record.sequence
      records.push(record)
      bytes += next.bytes
    }
    return records
  }

  /** Whether there may be parts behind the reader. */
  get isAhead(): boolean {
    return this.#isAhead && this.#part !== null
  }

  /** Deletes the parts that are behind the reader. */
  dropRead(): void {
    const current = this.#part
    if (current === null) return
    for (const { path } of journalParts(this.#file)) {
      if (path === current.path) break
      rmSync(path, { force: true })
    }
    this.#isAhead = false
  }

  close(): void {
    if (this.#part !== null) closeSync(this.#part.descriptor)
    this.#part = null
  }

  #next(upTo: number): ReadRecord | null {
    for (;;) {
      const known = this.#pending.shift()
      if (known !== undefined) return known
      if (this.#readMore(upTo)) continue
      if (!this.#openNextPart()) return null
    }
  }

  /** False at the end of what is there of the part. A line without its end is read again: it may yet be taken back. */
  #readMore(upTo: number): boolean {
    const part = this.#part
    if (part === null || part.isCut) return false
    for (let size = READ_BYTES; ; size *= 2) {
      const chunk = Buffer.allocUnsafe(size)
      const read = readSync(part.descriptor, chunk, 0, size, part.offset)
      const end = chunk.subarray(0, read).lastIndexOf(LINE_END)
      if (end < 0 && read < size) return false
      if (end >= 0) this.#takeLines(part, chunk.subarray(0, end + 1), upTo)
      else if (size <= this.#lineBytesMax) continue // one long line
      else throw new LongLineError('a line of the journal is too long')
      return true
    }
  }

  #takeLines(part: OpenPart, lines: Buffer, upTo: number): void {
    for (let from = 0; from < lines.length;) {
      const end = lines.indexOf(LINE_END, from)
      const bytes = end + 1 - from
      if (bytes > this.#lineBytesMax) throw new LongLineError('a line of the journal is too long')
      const record = recordOf(lines.toString('utf8', from, end))
      if (record === null) {
        part.isCut = true
        return
      }
      this.#pending.push({ record, bytes })
      part.offset += bytes
      from = end + 1
      if (record.sequence >= upTo) return // what comes after it is read when it is asked for
    }
  }

  /** The journal goes on in a part that begins with the record that is due: only then is the one before it over. */
  #openNextPart(): boolean {
    const path = this.#part === null ? this.#firstPart() : partPath(this.#file, this.#sequence + 1)
    if (path === null || path === this.#part?.path) return false
    let descriptor: number
    try {
      descriptor = openSync(path, 'r')
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false
      throw error
    }
    if (this.#part !== null) {
      closeSync(this.#part.descriptor)
      this.#isAhead = true
    }
    this.#part = { path, descriptor, offset: 0, isCut: false }
    return true
  }

  /** The part that holds the record that is due: the last that begins no later. */
  #firstPart(): string | null {
    return journalParts(this.#file).findLast(({ first }) => first <= this.#sequence + 1)?.path ?? null
  }
}

interface OpenPart {
  readonly path: string
  readonly descriptor: number
  offset: number
  isCut: boolean
}

interface ReadRecord {
  readonly record: JournalRecord
  readonly bytes: number
}

/** The parts that there are, oldest first. */
export function journalParts(file: string): readonly { readonly path: string; readonly first: number }[] {
  const prefix = `${basename(file)}${SUFFIX}`
  return readdirSync(dirname(file))
    .filter((name) => name.startsWith(prefix))
    .map((name) => ({ path: join(dirname(file), name), first: Number(name.slice(prefix.length)) }))
    .filter(({ first }) => Number.isSafeInteger(first))
    .toSorted((a, b) => a.first - b.first)
}

const SUFFIX = '.commits-'

function partPath(file: string, sequence: number): string {
  return `${file}${SUFFIX}${String(sequence).padStart(SEQUENCE_DIGITS, '0')}`
}

/** Before a line there may be a gap: an earlier version left one where the disk had been full. */
const GAP = /^\0+/

function recordOf(line: string): JournalRecord | null {
  try {
    return JSON.parse(line.startsWith('\0') ? line.replace(GAP, '') : line) as JournalRecord
  } catch {
    return null // cut by a crash of the machine: the journal ends here
  }
}
