/**
 * Steps that wait for the store, in order, in a file: what was written survives a killed process. They are read again in
 * batches; the file is removed some time after the last of them has arrived. Marks beside it say which of them the store was
 * told, and when, for whoever reads the file anew.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { Journal, JournalReader, journalParts } from '../journal.ts'
import { StoreError } from '../store.ts'
import { decodeStep, encodeStep, maybeKnownSince } from './steps.ts'
import type { OutageStep, Telling } from './steps.ts'

/** Names what a line holds, and its version. */
const STEP_V1 = 'step-1'
/** Few enough that a busy store answers all of them in time. */
const BATCH = 50

/** Of the steps after `after` up to `last`; by the store's clock. */
interface Mark {
  readonly kind: 'told' | 'arrived'
  readonly after: number
  readonly last: number
  readonly atMs: number
}

/** Written and read by one process alone; it has files open until it is closed. */
export class StepJournal {
  readonly #file: string
  readonly #journal: Journal
  /** What an earlier run noted. */
  readonly #marks: readonly Mark[]
  /** Of the last step that the file no longer has. */
  readonly #before: number
  /** Of the last step that an earlier run saw arrive. */
  readonly #arrivedEarlier: number
  #reader: JournalReader
  /** Of the last step written, read, and arrived; the first is 1. */
  #written: number
  #read: number
  #arrived: number
  /** When the store was first told those that have not arrived; in order. */
  #told: readonly Mark[]
  readonly #batch: number
  #bytes = 0

  /**
   * `file`: a path that names the journal's parts; its folder is made. `safeBeforeMs`: what arrived before this is not told
   * again. `batch`: how many are read at a time. Throws what the file system says.
   */
  constructor(file: string, safeBeforeMs = Number.NEGATIVE_INFINITY, batch = BATCH) {
    mkdirSync(dirname(file), { recursive: true })
    this.#file = file
    this.#batch = batch
    this.#journal = new Journal(file)
    const [first] = journalParts(file)
    const before = (first?.first ?? 1) - 1
    const counting = new JournalReader(file, before)
    let last = before
    for (;;) {
      const records = counting.readTo(last + batch)
      const newest = records.at(-1)
      if (newest === undefined) break
      last = newest.sequence
    }
    counting.close()
    this.#marks = marksOf(file, last)
    this.#arrivedEarlier = arrivedBefore(this.#marks, Number.POSITIVE_INFINITY)
    this.#before = before
    this.#written = last
    this.#arrived = this.#safe(safeBeforeMs)
    this.#read = this.#arrived
    this.#reader = new JournalReader(file, this.#arrived)
    this.#told = this.#toldSince(this.#arrived)
  }

  /** Whether an earlier run left steps. */
  static isThere(file: string): boolean {
    return existsSync(dirname(file)) && journalParts(file).length > 0
  }

  /** How many steps have not arrived. */
  get unsent(): number {
    return this.#written - this.#arrived
  }

  /** Of what was written since it was opened. */
  get bytes(): number {
    return this.#bytes
  }

  /** As `safeBeforeMs`, by a clock that is better known by now. Before anything is read of it. */
  setSafeBefore(ms: number): void {
    this.#arrived = this.#safe(ms)
    this.#told = this.#toldSince(this.#arrived)
    this.again()
  }

  #safe(beforeMs: number): number {
    return Math.min(this.#written, Math.max(this.#before, arrivedBefore(this.#marks, beforeMs)))
  }
  #toldSince(arrived: number): readonly Mark[] {
    return this.#marks.filter((mark) => mark.kind === 'told' && mark.last > arrived)
  }

  /** On its way to the disk when this returns. Throws `StoreError` when it cannot be written; then it is not there. */
  append(step: OutageStep): void {
    const text = encodeStep(step)
    try {
      this.#journal.append({ sequence: this.#written + 1, clockMs: 0, rows: [[STEP_V1, [[text]]]] })
    } catch (error) {
      throw new StoreError('away', `${this.#file}: steps cannot be kept while the store is away`, error)
    }
    this.#written += 1
    this.#bytes += text.length
  }

  /** The next steps in order: none when all that were written have been read. */
  next(nowMs: number): readonly Telling[] {
    const records = this.#reader.readTo(Math.min(this.#written, this.#read + this.#batch))
    this.#read += records.length
    return records.flatMap(({ sequence, rows }) =>
      rows.flatMap(([name, images]) => images.map(([text]) => this.#telling(stepOf(name, text), sequence, nowMs))),
    )
  }

  #telling(step: OutageStep, sequence: number, nowMs: number): Telling {
    const toldMs = this.#told.find(({ last }) => last >= sequence)?.atMs ?? null
    const sinceMs = Math.min(toldMs ?? Number.POSITIVE_INFINITY, maybeKnownSince(step) ?? Number.POSITIVE_INFINITY)
    const knownMs = Number.isFinite(sinceMs) ? nowMs - sinceMs : null
    return sequence <= this.#arrivedEarlier ? { step, knownMs, hasArrived: true } : { step, knownMs }
  }

  /** What was read is about to be told. Throws what the file system says. */
  told(nowMs: number): void {
    if ((this.#told.at(-1)?.last ?? 0) < this.#read) this.#mark({ kind: 'told', after: this.#arrived, last: this.#read, atMs: nowMs })
  }

  /** What was read has not arrived: it comes again. */
  again(): void {
    this.#reader.close()
    this.#reader = new JournalReader(this.#file, this.#arrived)
    this.#read = this.#arrived
  }

  /**
   * All that were read are in the store. They stay in the file: whoever reads it anew soon tells them again. Throws what the file
   * system says.
   */
  arrived(nowMs: number): void {
    const after = this.#arrived
    this.#arrived = this.#read
    this.#told = this.#told.filter(({ last }) => last > this.#arrived)
    this.#mark({ kind: 'arrived', after, last: this.#arrived, atMs: nowMs })
  }

  close(): void {
    this.#reader.close()
    this.#journal.close()
  }

  #mark(mark: Mark): void {
    if (mark.kind === 'told') this.#told = [...this.#told, mark]
    appendFileSync(marksFile(this.#file), markLine(mark), { mode: 0o600 })
  }
}

function marksFile(file: string): string {
  return `${file}.marks`
}

/** What the marks say of the steps up to `last`: a crash of the machine may have cut the journal, and others take the places of those behind it. */
function marksOf(file: string, last: number): readonly Mark[] {
  const marks = marksIn(marksFile(file))
  if (marks.every((mark) => mark.last <= last)) return marks
  const left = marks.map((mark) => ({ ...mark, after: Math.min(mark.after, last), last: Math.min(mark.last, last) }))
  writeFileSync(marksFile(file), left.map(markLine).join(''), { mode: 0o600 })
  return left
}

function markLine(mark: Mark): string {
  return `${JSON.stringify(mark)}\n`
}

/** None in a folder of an earlier version. A line that was cut is none. */
function marksIn(file: string): readonly Mark[] {
  if (!existsSync(file)) return []
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as Mark]
      } catch {
        return []
      }
    })
}

/** The last of the steps that arrived before `ms`. One that was told again since counts as it did then. */
function arrivedBefore(marks: readonly Mark[], ms: number): number {
  const newest: Mark[] = []
  for (const mark of marks) {
    if (mark.kind !== 'arrived') continue
    while ((newest.at(-1)?.last ?? 0) > mark.after) newest.pop()
    newest.push(mark)
  }
  return newest.findLast(({ atMs }) => atMs < ms)?.last ?? 0
}

function stepOf(name: string, text: unknown): OutageStep {
  if (name !== STEP_V1 || typeof text !== 'string') throw new StoreError('corrupt', `${name}: steps that this version cannot read`)
  return decodeStep(text)
}
