import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { build, hasGo, isBuilt } from './go-build.ts'
import type { Recipe } from './go-build.ts'

const HELLO: Recipe = {
  name: 'hello',
  version: 'v1',
  aliases: ['good-morning', 'good-night'],
  main: { source: 'package main\n\nvar name string\n\nfunc main() { println("hello", name) }\n' },
  stamps: { 'main.name': 'world' },
  minutes: 1,
}

describe('a program from Go modules', { skip: hasGo() ? false : 'there is no Go' }, () => {
  const was = { ...process.env }
  let cache: string
  before(() => {
    process.env['GOCACHE'] = execFileSync('go', ['env', 'GOCACHE'], { encoding: 'utf8' }).trim()
    cache = mkdtempSync(join(tmpdir(), 'farebox-cache-'))
    process.env['XDG_CACHE_HOME'] = cache
  })
  after(() => {
    process.env = was
    rmSync(cache, { recursive: true })
  })

  test('is built once, by the first of two who ask at once, under all its names', async () => {
    const said: string[] = []
    const [one, two] = await Promise.all([build(HELLO, (line) => said.push(line)), build(HELLO, (line) => said.push(line))])
    assert.equal(one, two)
    assert.deepEqual(new Set(said.map((line) => line.split(' ')[0])), new Set(['Building', 'Built', 'Waiting']))
    assert.equal(said.length, 3)
    assert.equal(spawnSync(join(one, 'good-night'), { encoding: 'utf8' }).stderr, 'hello world\n')
    await build(HELLO, () => assert.fail('it is there'))
  })

  test('is another program when what it is made of changes', async () => {
    assert.equal(isBuilt({ ...HELLO, stamps: { 'main.name': 'you' } }), false)
  })

  test('that does not compile says what the compiler says, and leaves nothing', async () => {
    const broken = { ...HELLO, main: { source: 'package main\n\nfunc main() { nowhere() }\n' } }
    await assert.rejects(
      build(broken, () => undefined),
      /good-morning, good-night v1 could not be built: go build ended with 1:[^]*undefined: nowhere/,
    )
    assert.equal(isBuilt(broken), false)
  })

  test('whose module cannot be had says so', async () => {
    const away = { ...HELLO, module: 'module.invalid/nowhere', version: 'v1.2.3' }
    await assert.rejects(
      build(away, () => undefined),
      /v1.2.3 could not be built: go mod ended with 1:[^]*module.invalid/,
    )
  })
})

test('without Go, tests that need a control plane are left out in one line; with CI set that is an error', () => {
  const cache = mkdtempSync(join(tmpdir(), 'farebox-cache-'))
  const script = `import { ownCluster } from '${new URL('../support/cluster.ts', import.meta.url).href}'; console.log(await ownCluster())`
  const run = (CI: string): ReturnType<typeof spawnSync> => {
    const env = { PATH: cache, HOME: cache, XDG_CACHE_HOME: cache, CI }
    return spawnSync(process.execPath, ['--input-type=module', '--eval', script], { env, encoding: 'utf8' })
  }
  try {
    assert.match(
      String(run('').stdout),
      /^The tests that need a control plane are left out; missing: etcd, kube-apiserver, kubectl[.] Install Go .*KUBEBUILDER_ASSETS.*\nnull\n$/,
    )
    const failed = run('true')
    assert.notEqual(failed.status, 0)
    assert.match(String(failed.stderr), /ProgramsMissing.*missing: etcd/)
    assert.equal(existsSync(join(cache, 'farebox')), false)
  } finally {
    rmSync(cache, { recursive: true })
  }
})
