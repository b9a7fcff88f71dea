/**
 * Runs every test of the project, in this order: those that need no quiet, two files at a time; those that judge by time, alone; those
 * that mind a crowd, two at a time again; those on a real control plane, three at a time, beside those that mostly wait. Ends with the files that
 * took longest, what was left out and why, one line `N passed, N failed`, and exit code 1 when any failed or none ran.
 */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { lastLines, newOutcome, runFiles } from './run-files.ts'
import { pythonWithSdks } from './sdk/python-venv.ts'
import { ONLY_WAITS } from './support/only-waits.ts'
import { bundlePrograms } from './support/bundles.ts'
import { buildPrograms, shareCluster } from './support/cluster.ts'
import { redisProgram } from './support/redis.ts'

const FILE_TIMEOUT_MS = 600_000
const EXEC_ARGV = [
  '--disable-warning=ExperimentalWarning',
  '--require',
  join(import.meta.dirname, 'support/untracked-promises.cjs'),
  '--import',
  import.meta.resolve('./support/seeded-properties.ts'),
]
const UNIT = ['crds/src/**/*.test.ts', 'operator/src/**/*.test.ts', 'sidecar/src/**/*.test.ts']
const SPANNING = ['test/**/*.test.ts']
/** They take longest of those that need no quiet: begun last, they would run alone in the end. */
const LONGEST = [
  'sidecar/src/store/redis/redis.test',
  'test/long/',
  'test/sdk/',
  'sidecar/src/store/redis/simulation',
  'test/simulation/',
  'test/hostile/',
  'test/integration/gemini',
]
/**
 * They judge by when things happened: nothing else may run meanwhile, a control plane included. `chaos` ends with a wait, beside which the
 * next run; its sidecars look for a store meanwhile, which nothing that listens to single bytes should hear.
 */
const TIMED = [
  'test/support/store-proxy',
  'test/bench/',
  'test/chaos/',
  'test/integration/cap',
  'test/integration/outage',
  'test/integration/replicas',
  'test/integration/next-call-elsewhere',
]
/** They mind a crowd, and not one other: two at a time. */
const STEADY = [
  'test/integration/run',
  'test/integration/store-',
  'test/integration/telemetry',
  'test/integration/exits',
  'test/integration/alerts',
  'test/integration/waiting',
  'test/integration/observe-outage',
]
/** They measure two hundred sidecars, or how soon an edit is in force, on a control plane: alone. */
const SCALE = ['test/scale/', 'test/delivery/fleet', 'test/operator/rollout']
/** They need no quiet either, and wait most of their time: one of them at a time runs beside two others. The first has a control plane of its own. */
const PATIENT = [
  'test/operator/idle',
  'test/delivery/bypass',
  'operator/src/kube/election.test',
  'test/integration/resolutions',
  'sidecar/src/proxy/claims',
]
/** On a real control plane, the longest first. Many of them wait for something to happen most of their time. */
const ON_CLUSTER = [
  'test/e2e/',
  'test/operator/objects',
  'test/kube/',
  'test/delivery/',
  'test/operator/',
  'test/charts/installed',
  'test/cluster/',
  'test/admission/',
  'test/crd/',
  'test/charts/',
]
/** Of those: beside three others, one of these at a time takes little more than its waiting. */
const WAITING = ['test/delivery/', 'test/kube/api-server']
const AT_ONCE = 2
const ON_CLUSTER_AT_ONCE = 3
/** What a file imports that starts a server of Redis. */
const REDIS_IMPORT = /support\/(?:redis|redis-cluster|stores)\.ts'/
const PYTHON = 'test/sdk/'
/** Files named at the end. */
const SLOWEST = 12

// What one process has compiled, the next need not.
process.env['NODE_COMPILE_CACHE'] ??= join(import.meta.dirname, '../node_modules/.cache/compiled')

const outcome = newOutcome()
const wanted = process.argv.slice(2)
const isWanted = (file: string): boolean => wanted.length === 0 || wanted.some((part) => file.includes(part))
const files = globSync([...UNIT, ...SPANNING], { exclude: (name) => name === 'node_modules' })
  .filter(isWanted)
  .toSorted()
if (wanted.length === 0)
  for (const start of [...LONGEST, ...TIMED, ...STEADY, ...SCALE, ...PATIENT, ...ON_CLUSTER, ...WAITING])
    if (!files.some((file) => file.startsWith(start))) throw new Error(`test/run.ts: no test file begins with ${start}`)
// Before files run side by side: two of them must not install it at once.
if (files.some((file) => REDIS_IMPORT.test(readFileSync(file, 'utf8')))) redisProgram()
if (files.some((file) => file.startsWith(PYTHON))) pythonWithSdks()
const pick = (starts: readonly string[], among: readonly string[]): readonly string[] => [
  ...new Set(starts.flatMap((start) => among.filter((file) => file.startsWith(start)))),
]
const without = (some: readonly string[], ...others: readonly (readonly string[])[]): readonly string[] =>
  some.filter((file) => !others.some((list) => list.includes(file)))
const timed = pick(TIMED, files)
const steady = pick(STEADY, files)
const patient = pick(PATIENT, files)
const scale = pick(SCALE, files)
const onCluster = without(pick(ON_CLUSTER, files), patient, scale)
const waiting = pick(WAITING, onCluster)
const longest = pick(LONGEST, files)
const others = without(files, timed, steady, patient, scale, onCluster, longest)
await bundlePrograms()
await buildPrograms(files)
await Promise.all([runSome([...longest, ...others], AT_ONCE), runSome(patient, 1)])
const { over: timedOver } = await runTimed(timed)
const [endCluster] = await Promise.all([shareCluster([...scale, ...onCluster]), runSome(steady, AT_ONCE)])
await timedOver
await runSome(scale, 1)
await Promise.all([runSome(without(onCluster, waiting), ON_CLUSTER_AT_ONCE), runSome(waiting, 1)])
await endCluster()
const slowest = outcome.durations.toSorted((one, other) => other.ms - one.ms).slice(0, SLOWEST)
if (wanted.length === 0) for (const { file, ms } of slowest) console.log(`${(ms / 1_000).toFixed(0).padStart(5)} s  ${file}`)
for (const line of lastLines(outcome)) console.log(line)
process.exit(outcome.failed > 0 || outcome.passed === 0 ? 1 : 0)

/** One after the other; while one of them only waits, and says so, the next begins. The last may still wait: `over` ends with all of them. */
async function runTimed(those: readonly string[]): Promise<{ readonly over: Promise<unknown> }> {
  const begun: Promise<void>[] = []
  for (const file of those) {
    const waits = Promise.withResolvers<void>()
    const over = runSome([file], 1, (output) => output.includes(ONLY_WAITS) && waits.resolve())
    begun.push(over)
    await Promise.race([over, waits.promise])
  }
  return { over: Promise.all(begun) }
}

function runSome(those: readonly string[], concurrency: number, heard?: (output: string) => void): Promise<void> {
  return runFiles(those, { concurrency, timeoutMs: FILE_TIMEOUT_MS, execArgv: EXEC_ARGV, heard }, outcome)
}
