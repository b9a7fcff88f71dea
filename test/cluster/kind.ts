/**
 * The same cluster by Docker and kind, for machines that have those: `FAREBOX_TEST_NODE=kind` makes tests on a node use it, which is
 * what `make e2e-kind` does. Linux: this machine reaches the pods, and the pods this machine.
 */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { load } from 'js-yaml'
import { Cluster, FILES } from './cluster.ts'
import type { ClusterState, NodeState } from './cluster.ts'
import { endAll, order, startKeeper } from './keeper-client.ts'
import { runOnNode } from './on-node.ts'
import { ProgramsMissing } from './programs.ts'

const TOOLS: Readonly<Record<string, string>> = {
  docker: 'https://docs.docker.com/engine/install',
  kind: 'https://kind.sigs.k8s.io',
  kubectl: 'https://kubernetes.io/docs/tasks/tools',
}
const POD_CIDR = '10.244.0.0/16'
const ENGINE = '/run/containerd/containerd.sock'
const PKI = '/etc/kubernetes/pki'
const CREATE_MS_MAX = 600_000
const RUN_MS_MAX = 120_000

/** Is it wanted? */
export function wantsKind(): boolean {
  return process.env['FAREBOX_TEST_NODE'] === 'kind'
}

/**
 * Starts one, which takes a minute, and more the first time. It ends with this process. Its API server is not ours to stop, and
 * keeps no audit log. `KIND_IMAGE` names another image of the node than kind's own choice.
 */
export async function startKindCluster(say: (line: string) => void): Promise<Cluster> {
  if (process.platform !== 'linux') throw new Error('make e2e-kind takes Linux: elsewhere this machine does not reach the pods')
  const missing = Object.entries(TOOLS).filter(([tool]) => spawnSync('sh', ['-c', `command -v ${tool}`], { stdio: 'ignore' }).status !== 0)
  if (missing.length > 0) throw new ProgramsMissing(`missing: ${missing.map(([tool, where]) => `${tool} (${where})`).join(', ')}`)
  run('docker', ['info'])
  const folder = mkdtempSync(join(tmpdir(), 'farebox-kind-'))
  try {
    await startKeeper(folder, { standing: false })
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
  try {
    return await create(folder, say)
  } catch (error) {
    await endAll(folder).catch(() => undefined)
    throw error
  }
}

async function create(folder: string, say: (line: string) => void): Promise<Cluster> {
  const name = `farebox-${randomBytes(3).toString('hex')}`
  const container = `${name}-control-plane`
  const kubeconfig = join(folder, FILES.kubeconfig)
  const image = process.env['KIND_IMAGE'] ?? ''
  const config = join(folder, 'kind.json')
  writeFileSync(config, JSON.stringify(kindConfig()))
  say(`Creating the kind cluster ${name} ...`)
  await order(folder, {
    do: 'cleanUp',
    command: ['kind', 'delete', 'cluster', '--name', name, '--kubeconfig', join(folder, 'left.kubeconfig')],
  })
  const choice = image === '' ? [] : ['--image', image]
  run(
    'kind',
    ['create', 'cluster', '--name', name, '--kubeconfig', kubeconfig, '--config', config, '--wait', '180s', ...choice],
    CREATE_MS_MAX,
  )

  const network = run('docker', ['inspect', '--format', '{{json .NetworkSettings.Networks.kind}}', container])
  const { IPAddress: ip, Gateway: host } = JSON.parse(network) as { readonly IPAddress: string; readonly Gateway: string }
  const node: NodeState = { name: container, ip, podCidr: POD_CIDR, pid: 0, container, engine: ENGINE }
  await routeToPods(folder, node)
  mkdirSync(join(folder, 'pki'))
  const keep = (file: string, text: string): void => writeFileSync(join(folder, 'pki', file), text, { mode: 0o600 })
  for (const file of ['ca.crt', 'ca.key']) keep(file, runOnNode(node, ['cat', `${PKI}/${file}`]))
  const { clusters, users } = load(readFileSync(kubeconfig, 'utf8')) as Kubeconfig
  keep('admin.crt', fromBase64(users[0]?.user['client-certificate-data']))
  keep('admin.key', fromBase64(users[0]?.user['client-key-data']))
  const state: ClusterState = {
    server: clusters[0]?.cluster.server ?? '',
    host,
    etcdUrl: '',
    programs: { kubectl: 'kubectl' },
    commands: {},
    hasControllers: true,
    node,
  }
  writeFileSync(join(folder, FILES.state), JSON.stringify(state, null, 2))
  return new Cluster(folder)
}

interface Kubeconfig {
  readonly clusters: readonly { readonly cluster: { readonly server: string } }[]
  readonly users: readonly { readonly user: Readonly<Record<string, string>> }[]
}

/** A kubelet that shows a pod a changed ConfigMap within seconds, as the one of our own node does. */
function kindConfig(): object {
  const patch = { apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration', syncFrequency: '10s' }
  return {
    apiVersion: 'kind.x-k8s.io/v1alpha4',
    kind: 'Cluster',
    networking: { podSubnet: POD_CIDR },
    nodes: [{ role: 'control-plane' }],
    kubeadmConfigPatches: [JSON.stringify(patch)],
  }
}

/** Routes are root's to set, and whoever may use Docker may be root: the node's image has `ip`. */
async function routeToPods(folder: string, { container, ip }: NodeState): Promise<void> {
  const image = run('docker', ['inspect', '--format', '{{.Image}}', container ?? '']).trim()
  const inHost = ['run', '--rm', '--network=host', '--cap-add=NET_ADMIN', '--entrypoint=ip', image, 'route']
  // The route is gone already where the cluster's container went first.
  await order(folder, { do: 'cleanUp', command: ['sh', '-c', `docker ${[...inHost, 'del', POD_CIDR, 'via', ip].join(' ')} || true`] })
  run('docker', [...inHost, 'replace', POD_CIDR, 'via', ip])
}

function run(program: string, args: readonly string[], timeout = RUN_MS_MAX): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout })
  if (status !== 0) throw new Error(`${program} ${args.slice(0, 2).join(' ')} failed: ${stderr?.trim() || error?.message}`)
  return stdout
}

function fromBase64(text: string | undefined): string {
  return Buffer.from(text ?? '', 'base64').toString()
}
