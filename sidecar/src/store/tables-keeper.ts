/** Has the tables written: by a thread of their own, so that no turn waits for the disk, or by this one. */
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { JournalReader } from './journal.ts'
import type { JournalRecord } from './journal.ts'
import type { ThreadAnswer, ThreadData, ThreadRequest } from './tables-thread.ts'
import type { DropTimes, TablesWriter } from './tables-writer.ts'

/** Rejects with what went wrong; the journal still has every row, so that it can be asked for again. */
export interface TablesKeeper {
  /** Brings the tables up to this commit at least. */
  write(upTo: number): Promise<void>
  /** The same, then drops what outlived its life. */
  dropOutlived(upTo: number, times: DropTimes): Promise<void>
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
      writer.undoUnfinished()
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
    async dropOutlived(upTo, times) {
      write(upTo)
      for (const _step of writer.dropOutlived(times));
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
/** For a row that is as long as a request may be. A thread with as much is ended when it has nothing to do. */
const ROOMY_LIMITS = { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 1_024 }

export class TablesThread implements TablesKeeper {
  readonly #file: string
  #worker: Worker | null = null
  #ending: Promise<unknown> = Promise.resolve()
  #asked: { readonly request: ThreadRequest; readonly resolve: () => void; readonly reject: (error: Error) => void }[] = []

  constructor(file: string) {
    this.#file = file
  }

  write(upTo: number): Promise<void> {
    return this.#ask({ kind: 'write', upTo })
  }
  dropOutlived(upTo: number, { nowMs, wallMs }: DropTimes): Promise<void> {
    return this.#ask({ kind: 'dropOutlived', upTo, nowMs, wallMs })
  }
  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = null // whatever it still says, no other is started
    for (const { reject } of this.#asked.splice(0)) reject(new Error('the thread that writes the tables ended'))
    await Promise.all([worker?.terminate(), this.#ending])
  }

  #ask(request: ThreadRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ request, resolve, reject })
      this.#worker ??= this.#start(false)
      this.#worker.ref()
      this.#worker.postMessage(request)
    })
  }

  #start(isRoomy: boolean): Worker {
    const workerData: ThreadData = { file: this.#file, isRoomy }
    const resourceLimits = isRoomy ? ROOMY_LIMITS : THREAD_LIMITS
    const worker = new Worker(THREAD, { workerData, resourceLimits, execArgv: ['--disable-warning=ExperimentalWarning'] })
    worker.on('message', (answer: ThreadAnswer) => {
      if (this.#worker !== worker) return
      if (answer.status === 'noRoom') return this.#askOneWithRoom(worker)
      const asked = this.#asked.shift()
      if (this.#asked.length === 0) {
        worker.unref() // a thread that has nothing to do keeps nobody up
        if (isRoomy) this.#end(worker)
      }
      if (answer.status === 'written') asked?.resolve()
      else asked?.reject(Object.assign(new Error(answer.message), answer.errcode === null ? {} : { errcode: answer.errcode }))
    })
    let fault = new Error('the thread that writes the tables ended')
    worker.on('error', (error) => {
      fault = error instanceof Error ? error : fault
    })
    worker.on('exit', () => {
      if (this.#worker !== worker) return
      const isOutOfMemory = 'code' in fault && fault.code === 'ERR_WORKER_OUT_OF_MEMORY'
      if (isOutOfMemory && !isRoomy && this.#asked.length > 0) return this.#askOneWithRoom(worker)
      this.#worker = null // the next request starts another
      for (const { reject } of this.#asked.splice(0)) reject(fault)
    })
    return worker
  }

  /** What was asked of a thread that has too little memory for it. */
  #askOneWithRoom(worker: Worker): void {
    this.#end(worker)
    this.#worker = this.#start(true)
    for (const { request } of this.#asked) this.#worker.postMessage(request)
  }

  #end(worker: Worker): void {
    this.#worker = null
    this.#ending = worker.terminate()
  }
}

/** The journal of a store that lives in memory alone. */
export class MemoryJournal implements RecordSource {
  readonly #records: JournalRecord[] = []
  readonly isAhead = false

  append(record: JournalRecord): number {
    this.#records.push(record)
    return record.sequence
  }
  readTo(sequence: number): readonly JournalRecord[] {
    const count = this.#records.findIndex((record) => record.sequence > sequence)
    return this.#records.splice(0, count < 0 ? this.#records.length : count)
  }
  assertRoom(): void {}
  beginAnew(): void {}
  dropRead(): void {}
  close(): void {}
}

export function journalReader(file: string, writer: TablesWriter): RecordSource {
  return new JournalReader(file, writer.applied)
}
