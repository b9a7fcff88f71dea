/**
 * The images, built from the Containerfiles without a daemon: on a base of this machine's Node, since a test asks no registry. What is in
 * them, as whom they run, and that they start on a root that cannot be written.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { bundleOperator } from '../../operator/build.ts'
import { bundleSidecar, NODE_FLAGS } from '../../sidecar/build.ts'
import { PackagesMissing } from '../cluster/system-packages.ts'
import { ImageBuilder } from '../support/image-builder.ts'

const BYTES_MAX = { operator: 16 * 1_048_576, sidecar: 8 * 1_048_576 }

const found = builderOrNull()
const options = found === null ? { skip: 'there is nothing to build images with' } : {}
const builder = (): ImageBuilder => {
  assert.ok(found !== null)
  return found
}

interface Config {
  readonly User: string
  readonly Entrypoint: readonly string[]
  readonly Cmd: readonly string[] | null
  readonly WorkingDir: string
  readonly Env: readonly string[]
}

describe('images', options, () => {
  before(async () => void (await Promise.all([bundleOperator(), bundleSidecar()])))
  after(() => found?.close())

  for (const name of ['operator', 'sidecar'] as const) {
    const tag = `localhost/farebox-${name}:test`
    const flags = name === 'sidecar' ? [...NODE_FLAGS] : ['--disable-warning=ExperimentalWarning']

    test(`the ${name}'s is built from its Containerfile, and says what is run as whom`, () => {
      builder().build(name, tag)
      const { OCIv1 } = JSON.parse(builder().run('inspect', '--type', 'image', tag)) as { readonly OCIv1: { readonly config: Config } }
      const { config } = OCIv1
      assert.equal(config.User, '65532:65532', 'by number, so that runAsNonRoot can be checked')
      assert.deepEqual(config.Entrypoint, ['node', ...flags, '/app/main.cjs'])
      assert.deepEqual(config.Cmd ?? [], [])
      assert.equal(config.WorkingDir, '/app')
      assert.ok(config.Env.includes('NODE_ENV=production'))
    })

    test(`the ${name}'s holds the bundle and nothing else of ours, and it starts`, () => {
      const container = builder().run('from', '--pull-never', tag)
      const mount = builder().run('mount', container)
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
      builder().run('rm', container)
    })
  }
})

/** Null where buildah is missing and installing it is not ours to do: the tests are left out, in one line. In CI that is an error. */
function builderOrNull(): ImageBuilder | null {
  try {
    return new ImageBuilder()
  } catch (error) {
    if (!(error instanceof PackagesMissing) || (process.env['CI'] ?? '') !== '') throw error
    console.log(`${error.message}: the tests that build images are left out`)
    return null
  }
}
