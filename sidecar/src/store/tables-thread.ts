/** The thread that writes the tables of a store's file: it reads the journal by itself, so that the turns wait for nothing. */
import { constants, setPriority } from 'node:os'
import { setImmediate as nextTick } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { messageOf } from '../error-text.ts'
import { connectToTables } from './database.ts'
import { JournalReader, LongLineError } from './journal.ts'
import { TablesWriter } from './tables-writer.ts'
import type { DropTimes } from './tables-writer.ts'

export interface ThreadData {
  readonly file: string
  /** It has memory for a line of any length. */
  readonly isRoomy: boolean
}

/** Asked for in order, and answered in order. */
export type ThreadRequest =
  | { readonly kind: 'write'; readonly upTo: number }
  | ({ readonly kind: 'dropOutlived'; readonly upTo: number } & DropTimes)
export type ThreadAnswer =
  | { readonly status: 'written'; readonly applied: number }
  /**
   * There is a line that needs more memory than this thread may have. Commits before it may be in the tables by now; of one that
   * was not at its end nothing is.
   */
  | { readonly status: 'noRoom' }
  | { readonly status: 'failed'; readonly message: string; readonly errcode: number | null }

/** Of the journal, read into memory at a time, and a line: those of a busy sidecar are of many turns each. */
const READ_BYTES_MAX = 512 * 1024
/** A line of more bytes has one long row; a commit of many rows is several lines. */
const LINE_BYTES_MAX = 1536 * 1024

// Turns come first: on Linux this lowers the calling thread alone; elsewhere it would be the whole process.
if (process.platform === 'linux') setPriority(constants.priority.PRIORITY_BELOW_NORMAL)

const { file, isRoomy } = workerData as ThreadData
const database = connectToTables(file)
const writer = new TablesWriter(database)
let reader = readerAfter(writer.applied)

const asked: ThreadRequest[] = []
let isAnswering = false

parentPort?.on('message', (request: ThreadRequest) => {
  asked.push(request)
  if (!isAnswering) void answerAll()
})

/** One after the other, although dropping lets go of the thread in between. */
async function answerAll(): Promise<void> {
  isAnswering = true
  for (let request = asked.shift(); request !== undefined; request = asked.shift()) parentPort?.postMessage(await answer(request))
  isAnswering = false
}

async function answer(request: ThreadRequest): Promise<ThreadAnswer> {
  try {
    write(request.upTo)
    if (request.kind === 'dropOutlived') for (const _step of writer.dropOutlived(request)) await nextTick()
    return { status: 'written', applied: writer.applied }
  } catch (error) {
    if (error instanceof LongLineError) return { status: 'noRoom' }
    const errcode = error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : null
    return { status: 'failed', message: messageOf(error), errcode }
  }
}

function write(upTo: number): void {
  try {
    while (writer.applied < upTo) {
      const records = reader.readTo(upTo, READ_BYTES_MAX)
      if (records.length === 0) throw new Error(`the journal ends at commit ${writer.applied}, before ${upTo}`)
      writer.apply(records)
    }
  } catch (error) {
    // What was read must be read again.
    writer.undoUnfinished()
    reader.close()
    reader = readerAfter(writer.applied)
    throw error
  }
  if (reader.isAhead && writer.checkpoint()) reader.dropRead()
}

function readerAfter(applied: number): JournalReader {
  return new JournalReader(file, applied, isRoomy ? Infinity : LINE_BYTES_MAX)
}
