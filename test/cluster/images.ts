/**
 * Container images of this machine's own files, without registry or engine: docker archives, each of one layer, that containerd
 * and `kind load image-archive` take. Pods use them with `imagePullPolicy: Never` or `IfNotPresent`.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { NodeState } from './cluster.ts'
import { runOnNode } from './on-node.ts'

/** As in an image's config. */
export interface ImageConfig {
  readonly Entrypoint?: readonly string[]
  readonly Cmd?: readonly string[]
  readonly Env?: readonly string[]
  readonly User?: string
  readonly WorkingDir?: string
}

export interface ProgramImage {
  /** `docker.io/farebox-test/redis:1` */
  readonly tag: string
  /** A program of this machine: it and the libraries that it names (and that `files` name) are put where they are here. */
  readonly program: string
  /** Where it is in the image; as here when absent. */
  readonly at?: string
  /** Path in the image -> path here, of a file or folder. */
  readonly files?: Readonly<Record<string, string>>
  /** Its entrypoint is the program when absent. */
  readonly config?: ImageConfig
}

const ARCHITECTURES: Readonly<Partial<Record<NodeJS.Architecture, string>>> = { x64: 'amd64', arm64: 'arm64' }
/** Nobody in particular: not root, and in no file of users of this machine. */
const USER = '65532:65532'
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
const STICKY = 0o1777
const NODE = '/usr/local/bin/node'

/** Writes the archive `to`, with all that is in `folder` as root's. */
export function imageFromFolder(folder: string, to: string, image: { readonly tag: string; readonly config: ImageConfig }): string {
  const scratch = mkdtempSync(join(tmpdir(), 'farebox-image-'))
  try {
    const layer = join(scratch, 'layer.tar')
    tar('--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '-C', folder, '-cf', layer, '.')
    const digest = createHash('sha256').update(readFileSync(layer)).digest('hex')
    const config = {
      architecture: ARCHITECTURES[process.arch] ?? process.arch,
      os: 'linux',
      config: image.config,
      rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
      history: [{ created_by: 'farebox test' }],
    }
    writeFileSync(join(scratch, 'config.json'), JSON.stringify(config))
    writeFileSync(join(scratch, 'manifest.json'), JSON.stringify([{ Config: 'config.json', RepoTags: [image.tag], Layers: ['layer.tar'] }]))
    tar('-C', scratch, '-cf', to, 'manifest.json', 'config.json', 'layer.tar')
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
  return to
}

/** Writes the archive `to`: the program with its libraries, users, certificate authorities and a /tmp. */
export function imageOfProgram(to: string, { tag, program, at = program, files = {}, config = {} }: ProgramImage): string {
  const root = mkdtempSync(join(tmpdir(), 'farebox-image-'))
  try {
    const put = (path: string, from: string): void => {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      cpSync(realpathSync(from), join(root, path), { recursive: true })
    }
    put(at, program)
    for (const [path, from] of Object.entries(files)) put(path, from)
    for (const library of [program, ...Object.values(files)].flatMap(librariesOf)) put(library, library)
    if (existsSync(CERTIFICATES)) put(CERTIFICATES, CERTIFICATES)
    for (const [folder, mode] of Object.entries({ tmp: STICKY, etc: 0o755, 'var/tmp': STICKY })) {
      mkdirSync(join(root, folder), { recursive: true })
      chmodSync(join(root, folder), mode)
    }
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/false\nnonroot:x:65532:65532::/tmp:/bin/false\n')
    writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnonroot:x:65532:\n')
    writeFileSync(join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n')
    return imageFromFolder(root, to, { tag, config: { Entrypoint: [at], User: USER, ...config } })
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

/** Node, the one that runs here, as `/usr/local/bin/node`. For a file of `files`: `config: { Cmd: ['/app/main.mjs'] }`. */
export function imageOfNode(to: string, { files, config, tag }: Omit<ProgramImage, 'program' | 'at'>): string {
  const Env = ['PATH=/usr/local/bin:/usr/bin:/bin']
  return imageOfProgram(to, { tag, program: process.execPath, at: NODE, ...(files && { files }), config: { Env, ...config } })
}

/** The image that holds the namespaces of each pod. */
export function pauseImage(folder: string, tag: string, program: string): string {
  const root = mkdtempSync(join(folder, 'pause-'))
  cpSync(program, join(root, 'pause'))
  return imageFromFolder(root, join(folder, 'pause.tar'), { tag, config: { Entrypoint: ['/pause'], User: '65535:65535' } })
}

/** Makes an archive's images known to the node. */
export function importImage(node: NodeState, archive: string): void {
  const file = openSync(archive, 'r')
  try {
    runOnNode(node, ['ctr', '--address', node.engine, '--namespace', 'k8s.io', 'images', 'import', '-'], file)
  } finally {
    closeSync(file)
  }
}

/** Paths of what the dynamic linker would load; none for a static program. */
function librariesOf(program: string): readonly string[] {
  const { stdout } = spawnSync('ldd', [program], { encoding: 'utf8' })
  return [...stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) => path ?? '').filter((path) => path !== '')
}

function tar(...args: readonly string[]): void {
  const { status, stderr } = spawnSync('tar', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`tar failed: ${stderr.trim()}`)
}
