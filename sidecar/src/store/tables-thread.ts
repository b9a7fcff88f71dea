/** The thread that writes the tables of a store's file: it reads the journal by itself, so that the turns wait for nothing. */
import { constants, setPriority } from 'node:os'
import { setImmediate as nextTick } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { connectToTables } from './database.ts'
import { JournalReader } from './journal.ts'
import { TablesWriter } from './tables-writer.ts'

export interface ThreadData {
  readonly file: string
}

/** Asked for in order, and answered in order. */
export type ThreadRequest =
  | { readonly kind: 'write'; readonly upTo: number }
  | { readonly kind: 'dropOutlived'; readonly upTo: number; readonly nowMs: number }
export type ThreadAnswer =
  | { readonly status: 'written'; readonly applied: number }
  | { readonly status: 'failed'; readonly message: string; readonly errcode: number | null }

/** Characters of the journal that are read into memory at a time, and a commit: those of a busy sidecar are of many turns each. */
const LENGTH_MAX = 512 * 1024

// Turns come first: on Linux this lowers the calling thread alone; elsewhere it would be the whole process.
if (process.platform === 'linux') setPriority(constants.priority.PRIORITY_BELOW_NORMAL)

const { file } = workerData as ThreadData
const database = connectToTables(file)
const writer = new TablesWriter(database)
let reader = new JournalReader(file, writer.applied)

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
    if (request.kind === 'dropOutlived') for (const _step of writer.dropOutlived(request.nowMs)) await nextTick()
    return { status: 'written', applied: writer.applied }
  } catch (error) {
    const errcode = error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : null
    return { status: 'failed', message: error instanceof Error ? error.message : String(error), errcode }
  }
}

function write(upTo: number): void {
  while (writer.applied < upTo) {
    const records = reader.readTo(upTo, LENGTH_MAX)
    if (records.length === 0) throw new Error(`the journal ends at commit ${writer.applied}, before ${upTo}`)
    try {
      writer.apply(records)
    } catch (error) {
      // The records were read, and must be read again.
      reader.close()
      reader = new JournalReader(file, writer.applied)
      throw error
    }
  }
  if (reader.isAhead && writer.checkpoint()) reader.dropRead()
}
