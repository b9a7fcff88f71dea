import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test(`an export that ${signal} stops leaves what was there before and nothing else`, { timeout: 30_000 }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'farebox-ledger-command-'))
    t.after(() => rmSync(folder, { recursive: true, force: true }))
    const path = join(folder, 'ledger.ndjson')
    writeFileSync(path, 'before\n')
    const silent = createServer(() => undefined).listen(0, '127.0.0.1')
    await once(silent, 'listening')
    t.after(() => (silent.close(), silent.closeAllConnections()))
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
    const flags = ['--disable-warning=ExperimentalWarning', MAIN, 'ledger', 'export', '--url', url, '--output', path]
    const exporting = spawn(process.execPath, flags, { stdio: ['ignore', 'ignore', 'pipe'] })
    t.after(() => exporting.kill('SIGKILL'))
    let told = ''
    exporting.stderr.setEncoding('utf8').on('data', (text: string) => void (told += text))
    const closed = once(exporting, 'close')
    while (readdirSync(folder).length < 2 && exporting.exitCode === null) await sleep(10)
    exporting.kill(signal)
    await closed
    assert.equal(told, `farebox: --output ${path}: not written: it was stopped before its end\n`)
    assert.equal(readFileSync(path, 'utf8'), 'before\n')
    assert.deepEqual(readdirSync(folder), ['ledger.ndjson'])
  })
}

test('a format in the place of the file is refused, with what was meant', () => {
  const said = (output: string): string =>
    spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, 'ledger', 'export', '--output', output], {
      encoding: 'utf8',
    }).stderr
  assert.match(said('csv'), /--output <file>.*did you mean --format csv\? For a file of that name: --output \.\/csv\./)
  for (const output of ['ndjson', 'json', 'table']) assert.match(said(output), /did you mean --format ndjson\?/)
})
