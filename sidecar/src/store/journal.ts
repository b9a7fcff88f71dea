/**
 * The journal of the embedded store: what each tick of the event loop changed, one commit a line, appended to a plain
 * file. What was written survives a killed process; a line that was cut by it was answered to nobody, and ends the journal.
 * The file is begun anew from time to time; a part whose commits are all in the tables is deleted.
 */
import { closeSync, ftruncateSync, openSync, readdirSync, readSync, rmSync, writeSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Values } from './rows.ts'

/** One commit: the new images of all rows that it changed, by table. */
export interface JournalRecord {
  /** Counts commits, without a gap. */
  readonly sequence: number
  /** What the store's clock showed. */
  readonly clockMs: number
  readonly rows: readonly (readonly [table: string, images: readonly Values[]])[]
}

/** A part is closed when it is this long. */
const PART_BYTES = 8 * 1024 * 1024
const READ_BYTES = 64 * 1024
const LINE_END = 0x0a
const SEQUENCE_DIGITS = 16

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

  /** All or nothing. Throws what the file system says; then the journal is as before. */
  append(record: JournalRecord): void {
    const line = Buffer.from(`${JSON.stringify(record)}\n`)
    if (this.#descriptor === null || this.#bytes >= this.#partBytes) this.#begin(record.sequence)
    const descriptor = this.#descriptor
    if (descriptor === null) throw new TypeError('a journal that began has a file')
    try {
      let written = 0
      while (written < line.length) written += writeSync(descriptor, line, written)
      this.#bytes += line.length
    } catch (error) {
      ftruncateSync(descriptor, this.#bytes)
      throw error
    }
  }

  close(): void {
    this.beginAnew()
  }

  /** The next commit begins a part, so that those before it can be deleted when they are in the tables. */
  beginAnew(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor)
    this.#descriptor = null
  }

  /** A part of this name from before holds nothing that was answered: it is written over. */
  #begin(sequence: number): void {
    const descriptor = openSync(partPath(this.#file, sequence), 'w', 0o600)
    this.close()
    this.#descriptor = descriptor
    this.#bytes = 0
  }
}

/** Reads commits in order, across parts, and deletes the parts that it has read to their end when it is told to. */
export class JournalReader {
  readonly #file: string
  /** The part that is read, how far, and whether a line was found cut: there it ends. */
  #part: { readonly path: string; readonly descriptor: number; offset: number; isCut: boolean } | null = null
  readonly #pending: { readonly record: JournalRecord; readonly length: number }[] = []
  #isAhead = true
  /** Of the last record that was given out. */
  #sequence: number

  /** `after`: the records up to this one are known. */
  constructor(file: string, after: number) {
    this.#file = file
    this.#sequence = after
  }

  /**
   * The records after the last ones given, up to `sequence`; fewer where the journal ends before it, or when their lines come to
   * `lengthMax` characters.
   */
  readTo(sequence: number, lengthMax = Infinity): readonly JournalRecord[] {
    const records: JournalRecord[] = []
    let length = 0
    while (this.#sequence < sequence && length < lengthMax) {
      const next = this.#next()
      if (next === null) break
      const { record } = next
      if (record.sequence <= this.#sequence) continue
      if (record.sequence !== this.#sequence + 1) break // what lay between is lost: what follows hangs in the air
      this.#sequence = record.sequence
      records.push(record)
      length += next.length
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

  #next(): { readonly record: JournalRecord; readonly length: number } | null {
    for (;;) {
      const known = this.#pending.shift()
      if (known !== undefined) return known
      if (this.#readMore()) continue
      if (!this.#openNextPart()) return null
    }
  }

  /** False at the end of what is there of the part. A line without its end is read again: it may yet be taken back. */
  #readMore(): boolean {
    const part = this.#part
    if (part === null || part.isCut) return false
    for (let size = READ_BYTES; ; size *= 2) {
      const chunk = Buffer.allocUnsafe(size)
      const read = readSync(part.descriptor, chunk, 0, size, part.offset)
      const end = chunk.subarray(0, read).lastIndexOf(LINE_END)
      if (end < 0) {
        if (read < size) return false
        continue // one long line
      }
      part.offset += end + 1
      for (const line of chunk.toString('utf8', 0, end).split('\n')) {
        const record = recordOf(line)
        if (record === null) {
          part.isCut = true
          break
        }
        this.#pending.push({ record, length: line.length })
      }
      return true
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

function recordOf(line: string): JournalRecord | null {
  try {
    return JSON.parse(line) as JournalRecord
  } catch {
    return null // cut by a crash of the machine: the journal ends here
  }
}
