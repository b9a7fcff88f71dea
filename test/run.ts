/**
 * Runs every test of the project two files at a time, but for those that judge by time, which run alone; those on a real control plane in two
 * lanes, since half of them mostly wait. Ends with the files that took longest, one line `N passed, N failed`, and exit code 1 when any
 * failed or none ran.
 */
import { globSync } from 'node:fs'
import { relative } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { pythonWithSdks } from './sdk/python-venv.ts'
import { shareCluster } from './support/cluster.ts'
import { redisProgram } from './support/redis.ts'

const FILE_TIMEOUT_MS = 600_000
const UNIT = ['crds/src/**/*.test.ts', 'operator/src/**/*.test.ts', 'sidecar/src/**/*.test.ts']
const SPANNING = ['test/**/*.test.ts']
/** They judge by when things happened: nothing else may run meanwhile, a control plane included. */
const TIMED = [
  'test/chaos/',
  'test/bench/',
  'test/integration/alerts',
  'test/integration/cap',
  'test/integration/exits',
  'test/integration/outage',
  'test/integration/replicas',
  'test/integration/run',
  'test/integration/store-',
  'test/integration/telemetry',
]
/** It measures. */
const SCALE = ['test/scale/']
/** Of those on a real control plane, the ones that mostly wait for something to happen, the longest first; and all others. */
const WAITING = ['test/operator/idle', 'test/delivery/', 'test/operator/leaders', 'test/kube/', 'test/cluster/']
const WORKING = ['test/e2e/', 'test/operator/', 'test/admission/', 'test/charts/', 'test/crd/']
const NEED_REDIS = [
  'sidecar/src/store/redis',
  'test/chaos',
  'test/charts/argo-cd',
  'test/charts/valkey',
  'test/delivery/store-file',
  'test/integration/memory',
  'test/integration/outage',
  'test/integration/replicas',
  'test/integration/resolutions',
  'test/integration/run',
  'test/integration/sessions',
  'test/integration/store-tls',
  'test/integration/store-trouble',
  'test/integration/users',
  'test/operator/rollout',
  'test/operator/store-user',
]
const NEED_PYTHON = ['test/sdk']
/** Files named at the end. */
const SLOWEST = 12

interface Counts {
  passed: number
  failed: number
  skipped: number
}

const counts: Counts = { passed: 0, failed: 0, skipped: 0 }
const durations: { readonly file: string; readonly ms: number }[] = []
const wanted = process.argv.slice(2)
// Before files run side by side: two of them must not install it at once.
const isNeeded = (by: readonly string[]): boolean =>
  wanted.length === 0 || wanted.some((part) => by.some((need) => need.includes(part) || part.includes(need)))
if (isNeeded(NEED_REDIS)) redisProgram()
if (isNeeded(NEED_PYTHON)) pythonWithSdks()
const isWanted = (file: string): boolean => wanted.length === 0 || wanted.some((part) => file.includes(part))
const unit = globSync(UNIT).filter(isWanted).toSorted()
const spanning = globSync(SPANNING, { exclude: (name) => name === 'node_modules' })
  .filter(isWanted)
  .toSorted()
if (unit.length > 0) await runFiles(unit, 2)
const pick = (starts: readonly string[], files: readonly string[]): readonly string[] =>
  starts.flatMap((start) => files.filter((file) => file.startsWith(start)))
const timed = pick(TIMED, spanning)
const scale = pick(SCALE, spanning)
const waiting = pick(WAITING, spanning)
const working = pick(WORKING, spanning).filter((file) => !waiting.includes(file))
const others = spanning.filter((file) => ![...timed, ...scale, ...waiting, ...working].includes(file))
await runLanes([timed])
if (others.length > 0) await runFiles(others, 2)
const endCluster = await shareCluster([...scale, ...waiting, ...working])
await runLanes([scale])
await runLanes([working, waiting])
await endCluster()
const slowest = durations.toSorted((one, other) => other.ms - one.ms).slice(0, SLOWEST)
if (wanted.length === 0) for (const { file, ms } of slowest) console.log(`${(ms / 1_000).toFixed(0).padStart(5)} s  ${file}`)
if (counts.skipped > 0) console.log(`${counts.skipped} skipped`)
console.log(`${counts.passed} passed, ${counts.failed} failed`)
process.exit(counts.failed > 0 || counts.passed === 0 ? 1 : 0)

async function runLanes(those: readonly (readonly string[])[]): Promise<void> {
  await Promise.all(those.filter((files) => files.length > 0).map((files) => runFiles(files, 1)))
}

function runFiles(files: readonly string[], concurrency: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const stream = run({ files: [...files], concurrency, timeout: FILE_TIMEOUT_MS, execArgv: ['--disable-warning=ExperimentalWarning'] })
    stream.on('test:pass', ({ details, skip, name }) => {
      if (details.type === 'suite' || isFile(name, files)) return
      if (skip === undefined || skip === false) counts.passed += 1
      else counts.skipped += 1
    })
    stream.on('test:fail', ({ details }) => {
      if (details.type !== 'suite') counts.failed += 1
    })
    stream.on('test:summary', ({ file, duration_ms: ms }) => {
      if (file !== undefined) durations.push({ file: relative(process.cwd(), file), ms })
    })
    stream.on('end', resolve)
    stream.on('error', reject)
    stream.compose(spec).pipe(process.stdout, { end: false })
  })
}

/** A file that holds no test is reported as one. */
function isFile(name: string, files: readonly string[]): boolean {
  return files.some((file) => name.endsWith(file))
}
