/**
 * The images, built from the Containerfiles without a daemon: on a base of this machine's Node, since a test asks no registry. What is in
 * them, as whom they run, and that they start on a root that cannot be written.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { bundleOperator } from '../../operator/build.ts'
import { bundleSidecar, NODE_FLAGS } from '../../sidecar/build.ts'
import { imageOfNode } from '../cluster/images.ts'
import { ROOT } from './helm.ts'

const BASE = 'localhost/farebox-test/node:24'
const BYTES_MAX = { operator: 16 * 1_048_576, sidecar: 8 * 1_048_576 }

const program = buildah()
const options = program === null ? { skip: 'buildah is missing' } : {}

interface Config {
  readonly User: string
  readonly Entrypoint: readonly string[]
  readonly Cmd: readonly string[] | null
  readonly WorkingDir: string
  readonly Env: readonly string[]
}

describe('images', options, () => {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-images-'))
  const run = (...args: readonly string[]): string => {
    const storage = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs']
    const { status, stdout, stderr, error } = spawnSync(program ?? '', [...storage, ...args], { encoding: 'utf8', timeout: 240_000 })
    if (error !== undefined) throw error
    assert.equal(status, 0, `buildah ${args.join(' ')}: ${stderr}`)
    return stdout.trim()
  }
  before(async () => {
    await Promise.all([bundleOperator(), bundleSidecar()])
    run('pull', `docker-archive:${imageOfNode(join(folder, 'base.tar'), { tag: BASE })}`)
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  for (const name of ['operator', 'sidecar'] as const) {
    const tag = `localhost/farebox-${name}:test`
    const flags = name === 'sidecar' ? [...NODE_FLAGS] : ['--disable-warning=ExperimentalWarning']

    test(`the ${name}'s is built from its Containerfile, and says what is run as whom`, () => {
      const file = join(ROOT, name, 'Containerfile')
      run(
        'build',
        '--isolation',
        'chroot',
        '--pull-never',
        '--build-arg',
        `BASE=${BASE}`,
        '--tag',
        tag,
        '--file',
        file,
        join(ROOT, name, 'dist'),
      )
      const { OCIv1 } = JSON.parse(run('inspect', '--type', 'image', tag)) as { readonly OCIv1: { readonly config: Config } }
      const { config } = OCIv1
      assert.equal(config.User, '65532:65532', 'by number, so that runAsNonRoot can be checked')
      assert.deepEqual(config.Entrypoint, ['node', ...flags, '/app/main.cjs'])
      assert.deepEqual(config.Cmd ?? [], [])
      assert.equal(config.WorkingDir, '/app')
      assert.ok(config.Env.includes('NODE_ENV=production'))
    })

    test(`the ${name}'s holds the bundle and nothing else of ours, and it starts`, () => {
      const container = run('from', '--pull-never', tag)
      const mount = run('mount', container)
      const files = readdirSync(join(mount, 'app')).toSorted()
      const expected = {
        operator: ['lease-worker.js', 'main.cjs', 'main.cjs.LEGAL.txt', 'self-test.cjs'],
        sidecar: ['main.cjs', 'tables-thread.cjs'],
      }
      assert.deepEqual(files, expected[name])
      const bytes = files.reduce((sum, file) => sum + readFileSync(join(mount, 'app', file)).length, 0)
      assert.ok(bytes < BYTES_MAX[name], `${bytes} bytes`)
      // Without its settings it says which are missing: so much of it runs.
      const { stderr, status } = spawnSync(process.execPath, [...flags, join(mount, 'app/main.cjs')], {
        encoding: 'utf8',
        env: {},
        cwd: join(mount, 'app'),
        timeout: 30_000,
      })
      assert.equal(status, 1)
      assert.match(stderr, name === 'operator' ? /POD_NAME/ : /FAREBOX_CONFIG/)
      run('rm', container)
    })
  }
})

/** Installed where that is ours to do; in CI it must be there. */
function buildah(): string | null {
  const isThere = (): boolean => spawnSync('buildah', ['--version']).status === 0
  if (isThere()) return 'buildah'
  if (process.getuid?.() === 0 && spawnSync('apt-get', ['--version']).status === 0) {
    console.log('Installing buildah, by which tests build images (once) ...')
    spawnSync('apt-get', ['install', '-y', '--no-install-recommends', 'buildah'], { stdio: 'ignore', timeout: 180_000 })
    if (isThere()) return 'buildah'
  }
  if ((process.env['CI'] ?? '') !== '') throw new Error('buildah is missing (apt-get install buildah)')
  console.log('buildah is missing (apt-get install buildah): the tests that build images are left out')
  return null
}
