/** Has the tables written: by a thread of their own, so that no turn waits for the disk, or by this one. */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { JournalReader } from './journal.ts'
import type { JournalRecord } from './journal.ts'
import type { ThreadAnswer, ThreadData, ThreadRequest } from './tables-thread.ts'
import type { TablesWriter } from './tables-writer.ts'

/** Rejects with what went wrong; the journal still has every row, so that it can be asked for again. */
export interface TablesKeeper {
  /** Brings the tables up to this commit at least. */
  write(upTo: number): Promise<void>
  /** The same, then drops what outlived its life. */
  dropOutlived(upTo: number, nowMs: number): Promise<void>
  close(): Promise<void>
}

/** Commits that were made, in order. */
export interface RecordSource {
  readTo(sequence: number): readonly JournalRecord[]
  readonly isAhead: boolean
  dropRead(): void
  close(): void
}

export function keepInline(writer: TablesWriter, source: () => RecordSource): TablesKeeper {
  let open = source()
  const write = (upTo: number): void => {
    try {
      writer.apply(open.readTo(upTo))
    } catch (error) {
      open.close()
      open = source() // what was read is read again
      throw error
    }
    if (open.isAhead && writer.checkpoint()) open.dropRead()
  }
  return {
    async write(upTo) {
      write(upTo)
    },
    async dropOutlived(upTo, nowMs) {
      write(upTo)
      for (const _step of writer.dropOutlived(nowMs));
    },
    async close() {
      open.close()
    },
  }
}

/** Beside this file, as source or as what was built from it. */
const THREAD = new URL(`./tables-thread${extname(import.meta.url)}`, import.meta.url)
/** Rows come and go; nothing is kept. */
const THREAD_LIMITS = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16 }

export class TablesThread implements TablesKeeper {
  readonly #file: string
  #worker: Worker | null = null
  #asked: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = []

  constructor(file: string) {
    this.#file = file
  }

  write(upTo: number): Promise<void> {
    return this.#ask({ kind: 'write', upTo })
  }
  dropOutlived(upTo: number, nowMs: number): Promise<void> {
    return this.#ask({ kind: 'dropOutlived', upTo, nowMs })
  }
  async close(): Promise<void> {
    await this.#worker?.terminate()
  }

  #ask(request: ThreadRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject })
      this.#worker ??= this.#start()
      this.#worker.ref()
      this.#worker.postMessage(request)
    })
  }

  #start(): Worker {
    const workerData: ThreadData = { file: this.#file }
    const worker = new Worker(THREAD, { workerData, resourceLimits: THREAD_LIMITS, execArgv: ['--disable-warning=ExperimentalWarning'] })
    worker.on('message', (answer: ThreadAnswer) => {
      const asked = this.#asked.shift()
      if (this.#asked.length === 0) worker.unref() // a thread that has nothing to do keeps nobody up
      if (answer.status === 'written') asked?.resolve()
      else asked?.reject(Object.assign(new Error(answer.message), answer.errcode === null ? {} : { errcode: answer.errcode }))
    })
    let fault = new Error('the thread that writes the tables ended')
    worker.on('error', (error) => {
      fault = error instanceof Error ? error : fault
    })
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = null // the next request starts another
      for (const { reject } of this.#asked.splice(0)) reject(fault)
    })
    return worker
  }
}

/** The journal of a store that lives in memory alone. */
export class MemoryJournal implements RecordSource {
  readonly #records: JournalRecord[] = []
  readonly isAhead = false

  append(record: JournalRecord): void {
    this.#records.push(record)
  }
  readTo(sequence: number): readonly JournalRecord[] {
    const count = this.#records.findIndex((record) => record.sequence > sequence)
    return this.#records.splice(0, count < 0 ? this.#records.length : count)
  }
  beginAnew(): void {}
  dropRead(): void {}
  close(): void {}
}

export function journalReader(file: string, writer: TablesWriter): RecordSource {
  return new JournalReader(file, writer.applied)
}
