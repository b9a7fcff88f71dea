import { spawnSync } from 'node:child_process'

/** Packages of the system are missing, and could not be installed. */
export class PackagesMissing extends Error {}

export interface SystemPackage {
  /** As Debian calls it. */
  readonly name: string
  readonly isThere: () => boolean
}

/** The package that has `program`, which is there when it is found in PATH. */
export function packageOf(program: string, name = program): SystemPackage {
  return { name, isThere: () => spawnSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' }).status === 0 }
}

/** Installs those that are missing, where that is ours to do: as root, where there is apt-get. Throws a `PackagesMissing` that names them. */
export function requirePackages(purpose: string, packages: readonly SystemPackage[], say: (line: string) => void): void {
  const missing = (): readonly string[] => [...new Set(packages.flatMap(({ name, isThere }) => (isThere() ? [] : [name])))]
  const names = missing()
  if (names.length === 0) return
  const needed = `${purpose} needs the packages ${names.join(' ')}`
  if (process.getuid?.() !== 0) throw new PackagesMissing(`${needed}: install them`)
  if (spawnSync('apt-get', ['--version']).status !== 0) throw new PackagesMissing(`${needed}, or what they are called on this system`)
  say(`${needed}: installing them with apt-get ...`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  spawnSync('apt-get', ['update', '-qq'], { env })
  const installed = spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...names], { env, encoding: 'utf8' })
  if (missing().length > 0) throw new PackagesMissing(`${needed}, and apt-get could not install them: ${installed.stderr.trim()}`)
}
