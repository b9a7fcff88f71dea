import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { openDatabase } from './database.ts'
import { Journal } from './journal.ts'
import type { ThreadAnswer, ThreadData, ThreadRequest } from './tables-thread.ts'

const LENGTH = 400_000
/** Of a row that is a line of its own, longer than the thread without much memory reads. */
const LONG_LENGTH = 2_000_000

test('without room for a line of a commit, those before it are in the tables, and nothing of it is until it can be read', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-tables-'))
  const file = join(folder, 'books.sqlite')
  const owned = openDatabase(file)
  const journal = new Journal(file)
  const row = (key: string, length = LENGTH) => [key, 'x'.repeat(length)]
  const commit = (sequence: number, contracts: string[][]) =>
    journal.append({ sequence, clockMs: sequence, rows: [['contracts', contracts]] })
  commit(1, [row('k1')])
  commit(2, [row('k2')])
  commit(3, [row('k3')])
  const upTo = commit(4, [row('k4'), row('k5'), row('k6', LONG_LENGTH)])
  const written = (): readonly unknown[] =>
    owned.database
      .prepare('SELECT hash FROM contracts ORDER BY hash')
      .all()
      .map(({ hash }) => hash)
  try {
    assert.equal((await asked(file, false, upTo)).status, 'noRoom')
    assert.deepEqual(written(), ['k1', 'k2', 'k3'])
    assert.deepEqual(await asked(file, true, upTo), { status: 'written', applied: upTo })
    assert.deepEqual(written(), ['k1', 'k2', 'k3', 'k4', 'k5', 'k6'])
  } finally {
    journal.close()
    owned.close()
    rmSync(folder, { recursive: true })
  }
})

async function asked(file: string, isRoomy: boolean, upTo: number): Promise<ThreadAnswer> {
  const workerData: ThreadData = { file, isRoomy }
  const request: ThreadRequest = { kind: 'write', upTo }
  const worker = new Worker(new URL('./tables-thread.ts', import.meta.url), { workerData })
  try {
    worker.postMessage(request)
    const [answer] = (await once(worker, 'message')) as [ThreadAnswer]
    return answer
  } finally {
    await worker.terminate()
  }
}
