import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { portThatFetchBlocks } from '../../../test/support/blocked-port.ts'
import { SidecarProcess } from './sidecar-process.ts'
import type { SidecarProcessOptions } from './sidecar-process.ts'

test('the sidecar is told where the keys of claims are, or of none', async (t) => {
  const lastWords = lastWordsOf(t, "process.env.FAREBOX_CLAIM_KEYS ?? 'no keys'")
  assert.equal(await lastWords({ claimKeysDir: '/claim-keys' }), 'Error: the sidecar did not start: /claim-keys')
  assert.equal(await lastWords({}), 'Error: the sidecar did not start: no keys')
})

test("its books are of the config's namespace, unless the environment names the store and another", async (t) => {
  const lastWords = lastWordsOf(t, "process.env.FAREBOX_STORE + ' ' + process.env.FAREBOX_NAMESPACE")
  const namespace = 'support'
  const told = async (url: string | null): Promise<string> => (await lastWords({ store: { url, namespace } })).replace(/^.*: /, '')
  setEnvironment(t, 'FAREBOX_NAMESPACE', undefined)
  setEnvironment(t, 'FAREBOX_STORE', 'env')
  assert.equal(await told('flag'), 'flag support')
  assert.equal(await told(null), 'env support')
  setEnvironment(t, 'FAREBOX_NAMESPACE', 'mine')
  assert.equal(await told('flag'), 'flag support')
  assert.equal(await told(null), 'env mine')
})

test('what is wrong with the store is said of the flag or of the variable, whichever named it', async (t) => {
  const lastWords = lastWordsOf(t, "'farebox sidecar: FAREBOX_STORE: must be redis://HOST:PORT'")
  const told = (url: string | null): Promise<string> => lastWords({ store: { url, namespace: 'support' } })
  assert.equal(await told('localhost:6379'), 'Error: the sidecar did not start: farebox sidecar: --store: must be redis://HOST:PORT')
  assert.equal(await told(null), 'Error: the sidecar did not start: farebox sidecar: FAREBOX_STORE: must be redis://HOST:PORT')
})

test('of an error that nobody caught the line that names it is told, and not what comes after it', async (t) => {
  const sidecar = processOf(t, "throw new TypeError('nothing is there')")
  await assert.rejects(sidecar.start(), { message: 'the sidecar did not start: TypeError: nothing is there' })
})

test('a start that is given up ends, whatever the sidecar makes of it', async (t) => {
  const givingUp = new AbortController()
  // It takes connections, says nothing, and does not hear a signal.
  const port = await portThatFetchBlocks()
  const deaf = `process.on('SIGTERM', () => {}); require('node:net').createServer(() => {}).listen(${port}, '127.0.0.1', () => process.send({}))`
  const sidecar = processOf(t, deaf, { admin: { host: '127.0.0.1', port } })
  const started = sidecar.start(givingUp.signal)
  const ended = assert.rejects(started, /did not start/)
  setTimeout(() => givingUp.abort(), 1_000)
  const beganAt = performance.now()
  await ended
  assert.ok(performance.now() - beganAt < 15_000, 'not after the 30 s that a start may take')
})

test('it may have its health at a port that browsers do not go to', async (t) => {
  const port = await portThatFetchBlocks()
  const sidecar = processOf(t, `require('node:http').createServer((_, answer) => answer.end()).listen(${port}, '127.0.0.1')`, {
    admin: { host: '127.0.0.1', port },
  })
  await sidecar.start()
  await sidecar.stop()
})

/** Starts a program that says the value of `expression` and ends; what is said of that. */
function lastWordsOf(t: TestContext, expression: string): (more: Partial<SidecarProcessOptions>) => Promise<string> {
  return (more) =>
    processOf(t, `process.stderr.write(${expression}); process.exitCode = 1`, more)
      .start()
      .then(
        () => 'it started',
        (error: unknown) => String(error),
      )
}

function processOf(t: TestContext, code: string, more: Partial<SidecarProcessOptions> = {}): SidecarProcess {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-sidecar-process-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const main = join(folder, 'main.cjs')
  writeFileSync(main, `${code}\n`)
  return new SidecarProcess({
    configFile: join(folder, 'config.json'),
    dataDir: folder,
    logFile: join(folder, 'log'),
    listen: { host: '127.0.0.1', port: 1 },
    admin: { host: '127.0.0.1', port: 1 },
    program: { main, flags: [] },
    say: () => undefined,
    ...more,
  })
}

/** Until the test is over. */
function setEnvironment(t: TestContext, name: string, value: string | undefined): void {
  const before = process.env[name]
  const set = (to: string | undefined): void => {
    if (to === undefined) delete process.env[name]
    else process.env[name] = to
  }
  t.after(() => set(before))
  set(value)
}
