/** A virtual environment for Python with the SDKs of `requirements.txt`, made once and kept in the cache folder. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PackagesMissing, requirePackages } from '../cluster/system-packages.ts'

export const REQUIREMENTS = fileURLToPath(new URL('python/requirements.txt', import.meta.url))
/** The oldest Python for which all of them are made. */
const MINOR_MIN = 10
const INSTALL_MS_MAX = 300_000

/**
 * The path of its `python`, installed where that is ours to do. Null where there is no Python with venv, or the SDKs cannot be had:
 * their tests are left out, in one line. With `CI` set that is an error.
 */
export function pythonWithSdks(): string | null {
  const folder = folderOf()
  const python = join(folder, 'bin', 'python')
  if (existsSync(python)) return python
  try {
    requirePython()
    install(folder)
    return python
  } catch (error) {
    if (!(error instanceof Missing) || (process.env['CI'] ?? '') !== '') throw error
    console.log(`${error.message}: the tests of the SDKs for Python are left out`)
    return null
  }
}

class Missing extends Error {}

function install(folder: string): void {
  console.log('Installing the SDKs for Python (once; about half a minute) ...')
  const fresh = `${folder}.new-${process.pid}`
  mkdirSync(join(folder, '..'), { recursive: true })
  try {
    run('python3', ['-m', 'venv', fresh])
    run(join(fresh, 'bin', 'python'), ['-m', 'pip', 'install', '--quiet', '--no-input', '--requirement', REQUIREMENTS])
    if (!existsSync(folder)) renameSync(fresh, folder)
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}

/** Throws a `Missing` that says what is not there. */
function requirePython(): void {
  try {
    requirePackages('The matrix of SDKs', [{ name: 'python3-venv', isThere: hasVenv }], console.log)
  } catch (error) {
    throw error instanceof PackagesMissing ? new Missing(error.message) : error
  }
  const probe = spawnSync('python3', ['-c', `import sys; sys.exit(sys.version_info < (3, ${MINOR_MIN}))`], { stdio: 'ignore' })
  if (probe.status !== 0) throw new Missing(`Python 3.${MINOR_MIN} or later is missing`)
}

/** `ensurepip` is what Debian leaves out of its python3. */
function hasVenv(): boolean {
  return spawnSync('python3', ['-c', 'import venv, ensurepip'], { stdio: 'ignore' }).status === 0
}

function folderOf(): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? ''
  const { stdout: version } = spawnSync('python3', ['--version'], { encoding: 'utf8' })
  const hash = createHash('sha256')
    .update(JSON.stringify([readFileSync(REQUIREMENTS, 'utf8'), version, process.arch]))
    .digest('hex')
    .slice(0, 8)
  return join(cache === '' ? join(homedir(), '.cache') : cache, 'farebox', `python-sdks-${hash}`)
}

/** Throws a `Missing` that says what the program said last. */
function run(program: string, args: readonly string[]): void {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: INSTALL_MS_MAX })
  if (status !== 0)
    throw new Missing(`${program} ${args.join(' ')} failed: ${error?.message ?? `${stdout}${stderr}`.trim().split('\n').at(-1)}`)
}
