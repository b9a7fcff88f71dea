/** A data volume that takes no files: a sidecar with a shared store starts and serves without it, and its log says what is wrong with which folder. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { SIDECAR_MAIN } from '../support/programs.ts'
import { redisProgram, startRedis } from '../support/redis.ts'
import type { TestServer } from '../support/redis.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'

const ASK = { model: 'gpt-4o', messages: [{ role: 'user' as const, content: 'hi' }] }

const program = redisProgram()

/** Has nothing that a run before left, and nothing can be kept in it, whoever tries: a file stands where folders would, and folders where files would. */
function block(folder: string): void {
  const names = readdirSync(folder).filter((name) => name !== 'config.json')
  const key = names.find((name) => name.startsWith('identity-'))
  assert.ok(key !== undefined)
  for (const name of names) rmSync(join(folder, name), { recursive: true })
  for (const name of [key.replace(/^identity-(.*)[.]key$/, 'outage-$1'), 'config']) writeFileSync(join(folder, name), '')
  for (const name of ['delivery.json', key]) mkdirSync(join(folder, `${name}.new`))
}

describe('a sidecar with a shared store and an operator', { skip: program === null ? 'there is no redis-server' : false }, () => {
  let provider: Provider
  let server: TestServer
  let mounts: string
  let sidecar: Sidecar
  before(async () => {
    provider = await startProvider()
    server = await startRedis(program ?? '')
    mounts = mkdtempSync(join(tmpdir(), 'farebox-mounts-'))
    for (const name of ['token', 'ca.crt']) writeFileSync(join(mounts, name), 'x')
    sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [makeContract()]), {
      environment: {
        FAREBOX_STORE: server.url,
        FAREBOX_OPERATOR: 'https://127.0.0.1:1',
        FAREBOX_OPERATOR_CA: join(mounts, 'ca.crt'),
        FAREBOX_TOKEN: join(mounts, 'token'),
      },
    })
  })
  after(async () => {
    await sidecar.close()
    await server.stop()
    await provider.close()
    rmSync(mounts, { recursive: true })
  })

  test('starts again where nothing can be kept, serves, and tells it once', async () => {
    await sidecar.client({ 'x-farebox-conversation': 'first' }).chat.completions.create(ASK)
    await sidecar.kill('SIGKILL')
    block(sidecar.dataDir)
    const before = sidecar.log().length
    await sidecar.start()
    await sidecar.client({ 'x-farebox-conversation': 'second' }).chat.completions.create(ASK)
    assert.equal((await fetch(`${sidecar.adminUrl}/readyz`)).status, 200)
    const errors = sidecar
      .log()
      .slice(before)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { readonly level: number; readonly msg: string; readonly err?: string })
      .filter(({ level }) => level >= 50)
      .map(({ msg, err }) => `${msg}: ${err}`)
    assert.equal(errors.length, 4, errors.join('\n'))
    for (const what of [
      /outage-[0-9a-f]{16} \(below FAREBOX_DATA\)/,
      /FAREBOX_DATA .* needs identity-/,
      /FAREBOX_DATA takes no files.*delivery.json/,
      /config in force cannot be kept/,
    ])
      assert.equal(errors.filter((error) => what.test(error)).length, 1, `${what}:\n${errors.join('\n')}`)
  })
})

test('one with books of its own does not start without their folder, and names it and its setting', async () => {
  const parent = mkdtempSync(join(tmpdir(), 'farebox-data-'))
  const folder = join(parent, 'data')
  const configFile = join(parent, 'config.json')
  writeFileSync(configFile, JSON.stringify(makeConfig('http://127.0.0.1:1/v1', [makeContract()])))
  const start = async (): Promise<string> => {
    const environment = { FAREBOX_CONFIG: configFile, FAREBOX_DATA: folder, FAREBOX_LISTEN: '127.0.0.1:0', FAREBOX_ADMIN: '127.0.0.1:0' }
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', SIDECAR_MAIN], {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
    assert.equal(code, 1)
    return said
  }
  try {
    writeFileSync(folder, 'in the way')
    assert.match(await start(), /^farebox sidecar: FAREBOX_DATA \(\S+\/data\): EEXIST/m)
    rmSync(folder)
    mkdirSync(join(folder, 'identity.key.new'), { recursive: true })
    assert.match(await start(), /^farebox sidecar: FAREBOX_DATA \(\S+\/data\): EISDIR/m)
  } finally {
    rmSync(parent, { recursive: true })
  }
})
