/** `make cluster` and `make cluster-down`: a cluster that stands until it is told to go, with the charts of this checkout installed. */
import { mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { install, SYSTEM } from '../e2e/stage.ts'
import { loadImages } from '../e2e/images.ts'
import { Cluster, FILES } from './cluster.ts'
import { startCluster } from './control-plane.ts'
import { endAll, order } from './keeper-client.ts'
import { helmProgram } from './programs.ts'

const FOLDER = join(tmpdir(), `farebox-standing-cluster-${process.getuid?.() ?? 0}`)
const [what] = process.argv.slice(2)

if (what === 'up') await up()
else if (what === 'down') await down()
else throw new Error('main.ts up, or main.ts down')

async function up(): Promise<void> {
  if (await stands()) return sayHow('A cluster stands already.')
  rmSync(FOLDER, { recursive: true, force: true })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void endAll(FOLDER).finally(() => process.exit(130)))
  const hasNode = process.platform === 'linux' && process.getuid?.() === 0
  const began = performance.now()
  const cluster = await startCluster({ folder: FOLDER, standing: true, node: hasNode })
  const bin = join(FOLDER, 'bin')
  mkdirSync(bin)
  symlinkSync(cluster.state.programs.kubectl ?? 'kubectl', join(bin, 'kubectl'))
  symlinkSync(await helmProgram(4), join(bin, 'helm'))
  try {
    console.log(`The control plane${hasNode ? ' and a node are' : ' is'} up; installing the charts ...`)
    await installCharts(cluster)
  } catch (error) {
    // It stands all the same: whoever works on the charts wants to see what became of them.
    console.error(`The charts could not be installed: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
  cluster.detach()
  const withoutNode = hasNode ? '' : ' It has no node, which takes Linux and root: pods stay Pending.'
  sayHow(`A cluster stands, after ${Math.round((performance.now() - began) / 1_000)} s.${withoutNode}`)
}

async function installCharts(cluster: Cluster): Promise<void> {
  if (cluster.state.node !== null) {
    await loadImages(cluster)
    return install({
      cluster,
      async apply(...items) {
        await cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }) })
      },
    })
  }
  const charts = new URL('../../charts/', import.meta.url).pathname
  for (const chart of ['farebox-crds', 'farebox'])
    await cluster.helm(['install', chart, `${charts}${chart}`, '--namespace', SYSTEM, '--create-namespace'])
}

async function down(): Promise<void> {
  if (!(await stands())) return console.log('No cluster stands.')
  await new Cluster(FOLDER).stop()
  console.log('The cluster is gone.')
}

/** Its folder may be of one that ended with the machine. */
async function stands(): Promise<boolean> {
  return order(FOLDER, { do: 'look', name: 'kube-apiserver' }).then(
    () => true,
    () => false,
  )
}

function sayHow(first: string): void {
  console.log(`${first}\n`)
  console.log(`  export KUBECONFIG=${join(FOLDER, FILES.kubeconfig)} PATH="${join(FOLDER, 'bin')}:$PATH"\n`)
  console.log('`make cluster-down` ends it.')
}
