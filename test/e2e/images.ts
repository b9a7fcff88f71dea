/**
 * The images that a node runs: operator and sidecar by their Containerfiles, a store of this machine's Redis, and the app. None
 * comes from a registry: Node's base image is made of the Node that runs here.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { bundleOperator } from '../../operator/build.ts'
import { bundleSidecar } from '../../sidecar/build.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { imageOfNode, imageOfProgram, importImage } from '../cluster/images.ts'
import { requirePackages } from '../cluster/system-packages.ts'
import { ImageBuilder } from '../support/image-builder.ts'
import { redisProgram } from '../support/redis.ts'

export const IMAGES = {
  operator: 'docker.io/farebox-test/operator:1',
  sidecar: 'docker.io/farebox-test/sidecar:1',
  store: 'docker.io/farebox-test/store:1',
  app: 'docker.io/farebox-test/app:1',
} as const

const APP = fileURLToPath(new URL('app/main.ts', import.meta.url))
const BUSYBOX = '/bin/busybox'
/** What the store's scripts call, all in one static program. */
const SHELL_TOOLS = ['sh', 'cat', 'cut', 'grep', 'mv', 'sed', 'sha256sum', 'tr'] as const

/** Makes all of them from this checkout, and makes them known to the cluster's node. */
export async function loadImages({ state: { node } }: Cluster): Promise<void> {
  if (node === null) throw new Error('images are for a cluster with a node')
  await Promise.all([bundleOperator(), bundleSidecar()])
  const builder = new ImageBuilder()
  try {
    for (const part of ['operator', 'sidecar'] as const) {
      builder.build(part, IMAGES[part])
      importImage(node, builder.archive(IMAGES[part], part))
    }
    importImage(node, storeImage(join(builder.folder, 'store.tar')))
    importImage(node, await appImage(join(builder.folder, 'app.tar')))
  } finally {
    builder.close()
  }
}

function storeImage(to: string): string {
  requirePackages('an image with a shell', [{ name: 'busybox-static', isThere: () => isStatic(BUSYBOX) }], console.log)
  const found = redisProgram()
  if (found === null) throw new Error('redis-server is missing (apt-get install redis-server)')
  const program = spawnSync('sh', ['-c', `command -v ${found}`], { encoding: 'utf8' }).stdout.trim()
  const tools = Object.fromEntries(SHELL_TOOLS.map((name) => [`/bin/${name}`, BUSYBOX]))
  const files = { ...tools, '/usr/bin/redis-cli': join(dirname(program), found.replace('server', 'cli')) }
  const config = { Env: ['PATH=/usr/bin:/bin'], Cmd: [] }
  return imageOfProgram(to, { tag: IMAGES.store, program, at: '/usr/bin/redis-server', files, config })
}

async function appImage(to: string): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-app-'))
  try {
    const outfile = join(folder, 'main.mjs')
    await build({ entryPoints: [APP], outfile, bundle: true, platform: 'node', format: 'esm', target: 'node24', logLevel: 'warning' })
    return imageOfNode(to, { tag: IMAGES.app, files: { '/app/main.mjs': outfile }, config: { Cmd: ['/app/main.mjs'] } })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function isStatic(program: string): boolean {
  return existsSync(program) && spawnSync('ldd', [program], { encoding: 'utf8' }).status !== 0
}
