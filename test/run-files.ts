/** Runs test files and counts what came of them: tests, and what fails or is left out around them (suites, hooks, files). */
import { relative } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

export interface Outcome {
  passed: number
  failed: number
  readonly leftOut: LeftOut[]
  readonly durations: { readonly file: string; readonly ms: number }[]
}

/** A test, or a suite whose tests nobody has seen: it counts as one. */
export interface LeftOut {
  readonly name: string
  readonly file: string
  /** Null where the test gives none. */
  readonly reason: string | null
}

export interface RunOptions {
  /** So many files at a time. */
  readonly concurrency: number
  readonly timeoutMs: number
  readonly execArgv: readonly string[]
  /** Is told what the files print. */
  readonly heard?: ((output: string) => void) | undefined
}

export function newOutcome(): Outcome {
  return { passed: 0, failed: 0, leftOut: [], durations: [] }
}

/** Adds to `outcome`, and prints what happens as it does. */
export async function runFiles(files: readonly string[], options: RunOptions, outcome: Outcome): Promise<void> {
  if (files.length === 0) return
  const { concurrency, timeoutMs: timeout, execArgv, heard } = options
  let failed = 0
  let isGreen = true
  await new Promise<void>((resolve, reject) => {
    const stream = run({ files: [...files], concurrency, timeout, execArgv: [...execArgv] })
    if (heard !== undefined) stream.on('test:stdout', ({ message }) => heard(message))
    stream.on('test:pass', ({ details, skip, name, file }) => {
      const leaveOut = (reason: string | null): void => void outcome.leftOut.push({ name, file: shortName(file ?? name), reason })
      if (skip !== undefined && skip !== false) leaveOut(typeof skip === 'string' && skip !== '' ? skip : null)
      else if (isFile(name, files)) leaveOut('it holds no test here')
      else if (details.type !== 'suite') outcome.passed += 1
    })
    stream.on('test:fail', ({ details }) => {
      // A suite fails with its tests, which are counted; or by itself: a hook or its own body throws, and nothing else tells.
      if (details.type !== 'suite' || !isOfTests(details.error)) failed += 1
    })
    stream.on('test:summary', ({ file, success, duration_ms: ms }) => {
      if (file === undefined) isGreen = success
      else outcome.durations.push({ file: shortName(file), ms })
    })
    stream.on('end', resolve)
    stream.on('error', reject)
    stream.compose(spec).pipe(process.stdout, { end: false })
  })
  // Whatever else the runner calls a failure.
  outcome.failed += isGreen ? failed : Math.max(1, failed)
}

/** What was left out, by name, how much that is, and as the very last the line that others read. */
export function lastLines({ passed, failed, leftOut }: Outcome): readonly string[] {
  return [
    ...leftOut.map(
      ({ name, file, reason }) => `skipped: ${name}${name === file ? '' : ` (${file})`}${reason === null ? '' : `: ${reason}`}`,
    ),
    ...(leftOut.length === 0 ? [] : [`${leftOut.length} skipped`]),
    `${passed} passed, ${failed} failed`,
  ]
}

function shortName(file: string): string {
  return relative(process.cwd(), file)
}

/** A file that holds no test is reported as one. */
function isFile(name: string, files: readonly string[]): boolean {
  return files.some((file) => name.endsWith(file))
}

function isOfTests(error: unknown): boolean {
  return (error as { readonly failureType?: unknown }).failureType === 'subtestsFailed'
}
