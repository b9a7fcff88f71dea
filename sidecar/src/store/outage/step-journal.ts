/**
 * Steps that wait for the store, in order, in a file: what was written survives a killed process. They are read again in
 * batches; the file is removed some time after the last of them has arrived.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { Journal, JournalReader, journalParts } from '../journal.ts'
import { StoreError } from '../store.ts'
import { decodeStep, encodeStep } from './steps.ts'
import type { OutageStep } from './steps.ts'

/** Names what a line holds, and its version. */
const STEP_V1 = 'step-1'
/** Few enough that a busy store answers all of them in time. */
const BATCH = 50

export class StepJournal {
  readonly #file: string
  readonly #journal: Journal
  #reader: JournalReader
  /** Of the last step written, read, and arrived; the first is 1. */
  #written: number
  #read: number
  #arrived: number
  #bytes = 0

  /** `file`: a path that names the journal's parts; its folder is made. Throws what the file system says. */
  constructor(file: string) {
    mkdirSync(dirname(file), { recursive: true })
    this.#file = file
    this.#journal = new Journal(file)
    const [first] = journalParts(file)
    const before = (first?.first ?? 1) - 1
    const counting = new JournalReader(file, before)
    let last = before
    for (;;) {
      const records = counting.readTo(last + BATCH)
      const newest = records.at(-1)
      if (newest === undefined) break
      last = newest.sequence
    }
    counting.close()
    this.#reader = new JournalReader(file, before)
    this.#written = last
    this.#read = before
    this.#arrived = before
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
  next(): readonly OutageStep[] {
    const records = this.#reader.readTo(Math.min(this.#written, this.#read + BATCH))
    const steps = records.flatMap(({ rows }) => rows.flatMap(([name, images]) => images.map(([text]) => stepOf(name, text))))
    this.#read += records.length
    return steps
  }

  /** What was read has not arrived: it comes again. */
  again(): void {
    this.#reader.close()
    this.#reader = new JournalReader(this.#file, this.#arrived)
    this.#read = this.#arrived
  }

  /** All that were read are in the store. They stay in the file: whoever reads it anew tells them again. */
  arrived(): void {
    this.#arrived = this.#read
  }

  close(): void {
    this.#reader.close()
    this.#journal.close()
  }
}

function stepOf(name: string, text: unknown): OutageStep {
  if (name !== STEP_V1 || typeof text !== 'string') throw new StoreError('corrupt', `${name}: steps that this version cannot read`)
  return decodeStep(text)
}
