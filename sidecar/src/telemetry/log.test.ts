import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs, { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, mock, test } from 'node:test'
import { createLog } from './log.ts'
import type { Log } from './log.ts'

let folder: string
let logFile: string
let complaints: string[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farebox-log-'))
  logFile = join(folder, 'made', 'sidecar.log')
  complaints = []
})
afterEach(() => rmSync(folder, { recursive: true }))

const open = (file = logFile): Log =>
  createLog({ logLevel: 'info', logFile: file, pod: null }, (line) => {
    complaints.push(line)
  })
const messages = (): readonly string[] =>
  readFileSync(logFile, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { readonly msg: string }).msg)

test('a line is written when it was logged, whatever becomes of the process then', () => {
  open().info({}, 'first')
  assert.deepEqual(messages(), ['first'])
})

test('a file that takes no more costs lines, and is told once; when it takes some again it gets those that wait', () => {
  const log = open()
  log.info({}, 'before')
  const full = mock.method(fs, 'writeSync', () => {
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })
  })
  syncBuiltinESMExports()
  for (let index = 0; index < 20_000; index += 1) log.info({}, 'line')
  full.mock.restore()
  syncBuiltinESMExports()
  assert.deepEqual(complaints, [`the log ${logFile} takes no more lines: ENOSPC: no space left on device, write`])
  log.info({}, 'after')
  assert.deepEqual(new Set(messages()), new Set(['before', 'line', 'after']))
  assert.ok(messages().length < 20_000, 'those that wait are bounded')
})

// A pipe that nobody reads takes 64 KiB. The program says how long its event loop stood still.
test(
  'standard error that nobody reads costs lines, neither time nor the end of the process',
  { skip: process.platform !== 'linux' },
  () => {
    const program = `
    import { createLog } from ${JSON.stringify(new URL('log.ts', import.meta.url).href)}
    const log = createLog({ logLevel: 'info', logFile: null, pod: null }, () => undefined)
    let last = performance.now()
    let worstMs = 0
    setInterval(() => {
      worstMs = Math.max(worstMs, performance.now() - last)
      last = performance.now()
      for (let line = 0; line < 50; line += 1) log.info({ filler: 'x'.repeat(200) }, 'refused')
    }, 20)
    setTimeout(() => {
      console.log(Math.round(worstMs))
      process.exit(3)
    }, 1_000)`
    const file = join(folder, 'program.ts')
    writeFileSync(file, program)
    const fifo = join(folder, 'fifo')
    execFileSync('mkfifo', [fifo])
    const descriptor = openSync(fifo, 'r+') // a reader that reads nothing
    let best = Infinity
    // What the log does it does each time; what a busy machine does it does not.
    for (let attempt = 0; attempt < 3 && best >= 800; attempt += 1) {
      const { status, stdout } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', file], {
        stdio: ['ignore', 'pipe', descriptor],
        encoding: 'utf8',
        timeout: 60_000,
        killSignal: 'SIGKILL',
      })
      assert.equal(status, 3, stdout)
      best = Math.min(best, Number(stdout))
    }
    closeSync(descriptor)
    assert.ok(best < 800, `the event loop stood still for ${best} ms`)
  },
)

test('one that cannot be opened is an error that names the setting', () => {
  const inTheWay = join(folder, 'file')
  writeFileSync(inTheWay, '')
  assert.throws(() => open(join(inTheWay, 'sidecar.log')), /^Error: FAREBOX_LOG \(\S+sidecar\.log\): /)
})
