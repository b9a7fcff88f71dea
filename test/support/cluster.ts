/**
 * The control plane of tests. All files of one run share it; a file that is run alone has one of its own. Where one cannot be
 * had, such tests are left out and one line says why; with `CI` set that is an error.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { Cluster } from '../cluster/cluster.ts'
import { startCluster } from '../cluster/control-plane.ts'
import type { ClusterOptions } from '../cluster/control-plane.ts'
import { wantsKind } from '../cluster/kind.ts'
import { NodeImpossible, NodeMissing } from '../cluster/node.ts'
import { CONTROL_PLANE, findPrograms, HELM, NODE_PROGRAMS, ProgramsMissing } from '../cluster/programs.ts'
import { PackagesMissing } from '../cluster/system-packages.ts'
import { waitFor } from './wait-for.ts'

/** Folder of the cluster that a run's files share, or `none`. */
const SHARED = 'FAREBOX_TEST_CLUSTER'
const NONE = 'none'
const LEFT_OUT = { plane: 'there is no control plane', node: 'there is no node' } as const

type ClusterTest = (cluster: Cluster, context: TestContext) => Promise<void>
export interface ClusterTestOptions {
  /** A cluster for this test alone, of these options: for tests that stop parts of it, or need a node. */
  readonly own?: Omit<ClusterOptions, 'standing'>
}

let shared: Promise<Cluster | null> | null = null

/** A test that is given the cluster. */
export function clusterTest(name: string, body: ClusterTest): void
export function clusterTest(name: string, options: ClusterTestOptions, body: ClusterTest): void
export function clusterTest(name: string, ...rest: readonly [ClusterTest] | readonly [ClusterTestOptions, ClusterTest]): void {
  const [options, body] = rest.length === 1 ? [{}, rest[0]] : rest
  void test(name, async (context) => {
    const cluster = await (options.own === undefined ? sharedCluster() : ownCluster(options.own))
    if (cluster === null) return context.skip(options.own?.node === true ? LEFT_OUT.node : LEFT_OUT.plane)
    try {
      await body(cluster, context)
    } finally {
      if (options.own !== undefined) await cluster.stop()
    }
  })
}

/** The one that all files of this run share: leave it as it was. Null where there can be none. */
export function sharedCluster(): Promise<Cluster | null> {
  shared ??= (() => {
    const folder = process.env[SHARED] ?? ''
    if (folder === '') return ownCluster()
    return Promise.resolve(folder === NONE ? null : new Cluster(folder))
  })()
  return shared
}

/** A new one, which ends with this process unless it is stopped before. Null where there can be none; throws then when `CI` is set. */
export async function ownCluster(options: Omit<ClusterOptions, 'standing'> = {}): Promise<Cluster | null> {
  try {
    return await startCluster(options)
  } catch (error) {
    const isMissing = [ProgramsMissing, PackagesMissing, NodeMissing].some((kind) => error instanceof kind)
    const mayMiss = (process.env['CI'] ?? '') === ''
    if (!(error instanceof Error) || !(error instanceof NodeImpossible || (isMissing && mayMiss))) throw error
    console.log(`The tests that need ${options.node === true ? 'a node' : 'a control plane'} are left out; ${error.message}`)
    return null
  }
}

/** For who runs many files: builds what those need of programs, before any of them is timed. */
export async function buildPrograms(files: readonly string[]): Promise<void> {
  const texts = textsOf(files)
  if (texts.length === 0) return
  const canHaveNode = wantsKind() || (process.platform === 'linux' && process.getuid?.() === 0)
  const wantsNode = canHaveNode && texts.some((text) => text.includes('node: true'))
  const wantsHelm = wantsNode || texts.some((text) => text.includes('helm'))
  for (const names of [
    wantsKind() ? [] : CONTROL_PLANE,
    [...(wantsHelm ? Object.values(HELM) : []), ...(wantsNode && !wantsKind() ? NODE_PROGRAMS : [])],
  ]) {
    try {
      await findPrograms(names, console.log)
    } catch (error) {
      if (!(error instanceof ProgramsMissing)) throw error // files that need what is missing say so themselves
    }
  }
}

/** Starts the control plane that these files share, if any does, and gives how to end it. */
export async function shareCluster(files: readonly string[]): Promise<() => Promise<void>> {
  const isShared = !wantsKind() && textsOf(files).some((text) => text.includes('support/cluster.ts'))
  const cluster = isShared ? await ownCluster() : null
  process.env[SHARED] = cluster?.folder ?? NONE
  return async () => {
    delete process.env[SHARED]
    await cluster?.stop()
  }
}

function textsOf(files: readonly string[]): readonly string[] {
  return files.map((file) => readFileSync(file, 'utf8')).filter((text) => /support\/cluster[.]ts|cluster\/programs[.]ts/.test(text))
}

/** Makes a namespace `PREFIX-xxxxxx`, deletes it when the test is over (which takes the cluster 5 s; nobody waits), and gives its name. */
export async function freshNamespace(
  cluster: Cluster,
  context: TestContext,
  prefix: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<string> {
  const name = `${prefix}-${randomBytes(3).toString('hex')}`
  const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }
  const made = await cluster.request({ method: 'POST', path: '/api/v1/namespaces', body })
  assert.equal(made.status, 201, JSON.stringify(made.body))
  context.after(async () => {
    if (!cluster.isStopped) await cluster.request({ method: 'DELETE', path: `/api/v1/namespaces/${name}` })
  })
  const accounts = `/api/v1/namespaces/${name}/serviceaccounts`
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default' } }
  if (!cluster.state.hasControllers) await cluster.request({ method: 'POST', path: accounts, body: account })
  await waitFor(`the service account of ${name}`, async () => (await cluster.request({ path: `${accounts}/default` })).status === 200)
  return name
}
