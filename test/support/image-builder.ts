/** Builds images from Containerfiles by buildah, without a daemon: in a store of its own, on a base of this machine's Node. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { imageOfNode } from '../cluster/images.ts'
import { packageOf, requirePackages } from '../cluster/system-packages.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const BASE = 'localhost/farebox-test/node:24'
const RUN_MS_MAX = 240_000

/** Of what `operator/build.ts` and `sidecar/build.ts` wrote. */
export type Part = 'operator' | 'sidecar'

export class ImageBuilder {
  readonly folder: string

  /** Throws `PackagesMissing` where buildah is not there and cannot be installed. */
  constructor() {
    requirePackages('building images', [packageOf('buildah')], console.log)
    this.folder = mkdtempSync(join(tmpdir(), 'farebox-images-'))
    this.run('pull', `docker-archive:${imageOfNode(join(this.folder, 'base.tar'), { tag: BASE })}`)
  }

  build(part: Part, tag: string): void {
    const base = ['--pull-never', '--build-arg', `BASE=${BASE}`]
    this.run('build', '--isolation', 'chroot', ...base, '--tag', tag, '--file', join(ROOT, part, 'Containerfile'), join(ROOT, part, 'dist'))
  }

  /** Writes the image as a docker archive; gives its path. */
  archive(tag: string, name: string): string {
    const path = join(this.folder, `${name}.tar`)
    this.run('push', '--quiet', tag, `docker-archive:${path}:${tag}`)
    return path
  }

  /** What buildah printed; throws when it fails. */
  run(...args: readonly string[]): string {
    const storage = ['--root', join(this.folder, 'root'), '--runroot', join(this.folder, 'run'), '--storage-driver', 'vfs']
    const { status, stdout, stderr, error } = spawnSync('buildah', [...storage, ...args], { encoding: 'utf8', timeout: RUN_MS_MAX })
    if (status !== 0) throw new Error(`buildah ${args.join(' ')} failed: ${stderr?.trim() || error?.message}`)
    return stdout.trim()
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}
