/** Builds a program from Go modules, once: what was built is kept in a folder named for all that went into it. */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isAlive } from './processes.ts'

export interface Recipe {
  /** Of the file that is built. */
  readonly name: string
  readonly version: string
  /** Names by which the file is called, where it decides by its name what to be. Empty: just its own. */
  readonly aliases: readonly string[]
  /** Module that holds the program. Absent: the standard library alone is used. */
  readonly module?: string
  /** Text of a `main.go`, or the package that is one. */
  readonly main: { readonly source: string } | { readonly package: string }
  /** `path.variable` -> value, set by the linker. */
  readonly stamps: Readonly<Record<string, string>>
  /** Its go.mod replaces modules by folders of its own repository: those are had as modules of this version. */
  readonly stagingVersion?: string
  /** How long a build takes on two cores with empty caches, for the line that says that it began. */
  readonly minutes: number
}

const STILL_BUILDING_MS = 60_000
const LOCK_POLL_MS = 500
/** No build takes as long: its holder is gone, and its number is another process's by now. */
const LOCK_MS_MAX = 3_600_000
/** Lines of the compiler's complaint that are shown. */
const COMPLAINT_LINES_MAX = 20

/** The folder that holds, or will hold, what is built from `recipe`. */
export function folderOf(recipe: Recipe): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? ''
  const hash = createHash('sha256')
    .update(JSON.stringify([recipe, process.platform, process.arch]))
    .digest('hex')
    .slice(0, 8)
  return join(
    cache === '' ? join(homedir(), '.cache') : cache,
    'farebox',
    'test-cluster',
    [recipe.name, recipe.version, hash].filter((part) => part !== '').join('-'),
  )
}

export function isBuilt(recipe: Recipe): boolean {
  return existsSync(join(folderOf(recipe), recipe.name))
}

/** Is there a Go that can build? */
export function hasGo(): boolean {
  return spawnSync('go', ['version'], { stdio: 'ignore' }).status === 0
}

/**
 * Builds it, unless that was done before; waits where another process is doing it. Gives the folder that holds the program.
 * Throws an error that says what Go said, when a download or the compiler fails.
 */
export async function build(recipe: Recipe, say: (line: string) => void): Promise<string> {
  const folder = folderOf(recipe)
  if (isBuilt(recipe)) return folder
  mkdirSync(join(folder, '..'), { recursive: true })
  const release = await locked(`${folder}.lock`, () => say(`Waiting for another process that builds ${titleOf(recipe)} ...`))
  try {
    if (isBuilt(recipe)) return folder
    const began = performance.now()
    say(`Building ${titleOf(recipe)} from Go modules (once; about ${minutesOf(recipe.minutes)} on two cores) ...`)
    const scratch = mkdtempSync(`${folder}.building-`)
    try {
      await compile(recipe, scratch, say)
      for (const alias of recipe.aliases) symlinkSync(recipe.name, join(scratch, 'out', alias))
      if (!isBuilt(recipe)) renameSync(join(scratch, 'out'), folder)
    } finally {
      rmSync(scratch, { recursive: true, force: true })
    }
    say(`Built ${titleOf(recipe)} in ${Math.round((performance.now() - began) / 1_000)} s`)
    return folder
  } finally {
    release()
  }
}

async function compile(recipe: Recipe, scratch: string, say: (line: string) => void): Promise<void> {
  const go = async (...args: readonly string[]): Promise<string> => {
    const began = performance.now()
    const minute = setInterval(() => {
      say(`  still building ${titleOf(recipe)}: ${minutesOf(Math.round((performance.now() - began) / 60_000))}`)
    }, STILL_BUILDING_MS)
    try {
      return await goCommand(args, scratch)
    } catch (error) {
      throw new Error(`${titleOf(recipe)} could not be built: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    } finally {
      clearInterval(minute)
    }
  }
  writeFileSync(join(scratch, 'go.mod'), 'module program\n')
  const { module } = recipe
  if (module !== undefined) {
    const found = JSON.parse(await go('mod', 'download', '-json', `${module}@${recipe.version}`)) as { readonly GoMod: string }
    const itsGoMod = readFileSync(found.GoMod, 'utf8')
    const goVersion = /^go (\S+)$/m.exec(itsGoMod)?.[1] ?? '1.26.0'
    const staged = [...itsGoMod.matchAll(/^\s*(\S+) => \.\/staging\//gm)].map(([, path]) => path)
    const replaced = staged.map((path) => `replace ${path} => ${path} ${recipe.stagingVersion}`)
    const lines = ['module program', `go ${goVersion}`, `require ${module} ${recipe.version}`, ...replaced]
    writeFileSync(join(scratch, 'go.mod'), `${lines.join('\n')}\n`)
  }
  if ('source' in recipe.main) writeFileSync(join(scratch, 'main.go'), recipe.main.source)
  else writeFileSync(join(scratch, 'tool.go'), `//go:build tool\n\npackage tool\n\nimport _ "${recipe.main.package}"\n`)
  const stamps = Object.entries(recipe.stamps).map(([variable, value]) => `-X ${variable}=${value}`)
  const what = 'source' in recipe.main ? '.' : recipe.main.package
  await go(
    'build',
    '-mod=mod',
    '-buildvcs=false',
    '-trimpath',
    '-ldflags',
    ['-s -w', ...stamps].join(' '),
    '-o',
    join(scratch, 'out', recipe.name),
    what,
  )
}

function goCommand(args: readonly string[], folder: string): Promise<string> {
  const child = spawn('go', args, { cwd: folder, env: { ...process.env, GOWORK: 'off' }, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let complaint = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text))
  const leave = (): void => void child.kill('SIGTERM') // a build must not outlive who asked for it
  process.once('exit', leave)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      process.off('exit', leave)
      if (code === 0) return resolve(out)
      const lines = `${out}${complaint}`.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('go: downloading '))
      reject(new Error(`go ${args[0]} ended with ${code}:\n${lines.slice(-COMPLAINT_LINES_MAX).join('\n')}`))
    })
  })
}

/** Holds `path` until what it gives is called. A lock whose holder is gone is taken over; should two do so at once, both build. */
async function locked(path: string, waiting: () => void): Promise<() => void> {
  const mine = `${path}.${process.pid}`
  for (let said = false; ; said = true) {
    writeFileSync(mine, String(process.pid))
    try {
      linkSync(mine, path) // it appears with its holder in it, or not at all
      return () => rmSync(path, { force: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      rmSync(mine)
    }
    if (isLeft(path)) {
      rmSync(path, { force: true })
      continue
    }
    if (!said) waiting()
    await sleep(LOCK_POLL_MS)
  }
}

function isLeft(path: string): boolean {
  try {
    return !isAlive(Number(readFileSync(path, 'utf8'))) || Date.now() - statSync(path).mtimeMs > LOCK_MS_MAX
  } catch {
    return false // just given back
  }
}

function titleOf({ name, version, aliases }: Recipe): string {
  return `${aliases.length === 0 ? name : aliases.join(', ')}${version === '' ? '' : ` ${version}`}`
}

function minutesOf(minutes: number): string {
  return minutes === 1 ? '1 minute' : `${minutes} minutes`
}
