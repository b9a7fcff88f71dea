/** Starts etcd, API server, controllers and scheduler, each of them the real one, on ports of its own and in a folder of its own. */
import { generateKeyPairSync } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { againOnTakenPorts, freePorts, PortTaken } from '../support/free-ports.ts'
import { createAuthority, sign } from './certificates.ts'
import type { KeyPair, Subject } from './certificates.ts'
import { Cluster, FILES, kubeconfigText } from './cluster.ts'
import type { ClusterState, NodeState } from './cluster.ts'
import { endAll, startKeeper } from './keeper-client.ts'
import { startKindCluster, wantsKind } from './kind.ts'
import { requireNodeTools, startNode, startNodeNamespaces } from './node.ts'
import type { NodeAddresses } from './node.ts'
import { CONTROL_PLANE, findPrograms, NODE_PROGRAMS, pathOf } from './programs.ts'
import type { Programs } from './programs.ts'

export interface ClusterOptions {
  /** Also a node that runs pods: Linux, root. */
  readonly node?: boolean
  /** A folder that is to be made, for its state; a new one below the system's folder for temporary files when absent. */
  readonly folder?: string
  /** It outlives this process, and is ended by `stop` alone. */
  readonly standing?: boolean
  readonly apiServerFlags?: readonly string[]
  readonly say?: (line: string) => void
}

const LOOPBACK = '127.0.0.1'
const SERVICE_CIDR = '10.96.0.0/24'
const SERVICE_FIRST = '10.96.0.1'
/** Of one test after another, each of which waits for what they do. */
const UNHURRIED = ['--kube-api-qps=500', '--kube-api-burst=1000'] as const

/**
 * Starts it, and waits until the API server is ready: 3 s, and 6 s more with a node. Programs that are missing are built first,
 * which takes minutes, once. All of it ends when this process does, however that ends. Throws an error that says what is
 * missing (`ProgramsMissing`), or what a program logged that did not come up.
 */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const say = options.say ?? console.log
  if (options.node === true && wantsKind()) return startKindCluster(say)
  if (options.node === true) requireNodeTools(say)
  const programs = await findPrograms([...CONTROL_PLANE, ...(options.node === true ? NODE_PROGRAMS : [])], say)
  return againOnTakenPorts(() => startOnce(options, programs))
}

async function startOnce(options: ClusterOptions, programs: Programs): Promise<Cluster> {
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'farebox-cluster-'))
  mkdirSync(join(folder, 'pki'), { recursive: true })
  try {
    await startKeeper(folder, { standing: options.standing === true })
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
  try {
    return await startParts(folder, options, programs)
  } catch (error) {
    const isTaken = hasEtcdNoPort(folder)
    await endAll(folder).catch(() => undefined)
    throw isTaken ? new PortTaken('etcd', { cause: error }) : error
  }
}

/** It ends then, and all that the API server says is that it is away. */
function hasEtcdNoPort(folder: string): boolean {
  const log = join(folder, 'log', 'etcd.log')
  return existsSync(log) && readFileSync(log, 'utf8').includes('address already in use')
}

async function startParts(folder: string, options: ClusterOptions, programs: Programs): Promise<Cluster> {
  const addresses = options.node === true ? await startNodeNamespaces(folder, programs) : null
  const host = addresses?.host ?? LOOPBACK
  const [port = 0] = await freePorts(1, host)
  const server = `https://${host}:${port}`
  const serviceFirst = addresses?.serviceFirst ?? SERVICE_FIRST
  await writeKeys(folder, server, [
    'kubernetes',
    'kubernetes.default',
    'kubernetes.default.svc',
    'kubernetes.default.svc.cluster.local',
    'localhost',
    LOOPBACK,
    serviceFirst,
    ...(host === LOOPBACK ? [] : [host]),
  ])
  const hasControllers = programs.has('kube-controller-manager') && programs.has('kube-scheduler')
  const [etcdPort = 0, peerPort = 0] = await freePorts(2)
  const etcdUrl = `http://${LOOPBACK}:${etcdPort}`
  const state: ClusterState = {
    server,
    host,
    etcdUrl,
    programs: Object.fromEntries(programs),
    commands: {
      etcd: etcdCommand({ folder, url: etcdUrl, peerUrl: `http://${LOOPBACK}:${peerPort}`, programs }),
      'kube-apiserver': apiServerCommand({ folder, host, port, etcdUrl, addresses, hasControllers, options, programs }),
      ...(hasControllers
        ? { 'kube-controller-manager': controllersCommand(folder, programs), 'kube-scheduler': schedulerCommand(folder, programs) }
        : {}),
    },
    hasControllers,
    node: addresses === null ? null : nodeStateOf(addresses),
  }
  writeFileSync(join(folder, FILES.state), JSON.stringify(state, null, 2))
  const cluster = new Cluster(folder)
  try {
    await cluster.start('etcd')
    await cluster.startApiServer()
    if (hasControllers) {
      await cluster.start('kube-controller-manager')
      await cluster.start('kube-scheduler')
    }
    if (addresses !== null) await startNode(cluster, addresses, programs)
  } catch (error) {
    cluster.detach()
    throw error
  }
  return cluster
}

function nodeStateOf({ name, ip, podCidr, pid, engine }: NodeAddresses): NodeState {
  return { name, ip, podCidr, pid, container: null, engine }
}

/** Certificates for everyone in `pki`, and a kubeconfig for those who need one. */
async function writeKeys(folder: string, server: string, hosts: readonly string[]): Promise<void> {
  const pki = join(folder, 'pki')
  const authority = await createAuthority('farebox-test-authority')
  const keep = (name: string, pair: KeyPair): void => {
    writeFileSync(join(pki, `${name}.crt`), pair.certificate)
    writeFileSync(join(pki, `${name}.key`), pair.key, { mode: 0o600 })
  }
  keep('ca', authority)
  keep('apiserver', await sign(authority, { name: 'kube-apiserver', hosts }))
  keep('kubelet-client', await sign(authority, { name: 'kube-apiserver-kubelet-client', groups: ['system:masters'] }))
  for (const [file, subject] of Object.entries(CLIENTS)) {
    const pair = await sign(authority, subject)
    keep(file, pair)
    const credentials = { 'client-certificate': join(pki, `${file}.crt`), 'client-key': join(pki, `${file}.key`) }
    writeFileSync(join(folder, `${file}.kubeconfig`), kubeconfigText({ server, ca: authority.certificate, credentials }), { mode: 0o600 })
  }
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
  writeFileSync(join(pki, 'service-accounts.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  writeFileSync(join(folder, 'audit-policy.json'), JSON.stringify(AUDIT_POLICY))
}

const CLIENTS: Readonly<Record<string, Subject>> = {
  admin: { name: 'admin', groups: ['system:masters'] },
  'controller-manager': { name: 'system:kube-controller-manager' },
  scheduler: { name: 'system:kube-scheduler' },
}

/** Who asked for what, with which answer. Of the control plane's own talk there is more than of all else, and nobody asks for it. */
const AUDIT_POLICY = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  rules: [
    { level: 'None', users: ['system:apiserver', 'system:kube-controller-manager', 'system:kube-scheduler', 'system:kube-proxy'] },
    { level: 'None', userGroups: ['system:nodes'] },
    { level: 'None', nonResourceURLs: ['/readyz*', '/livez*', '/healthz*', '/openapi/*'] },
    { level: 'Metadata' },
  ],
}

function etcdCommand(of: { folder: string; url: string; peerUrl: string; programs: Programs }): readonly string[] {
  return [
    pathOf(of.programs, 'etcd'),
    '--name=test',
    `--data-dir=${join(of.folder, 'etcd')}`,
    '--unsafe-no-fsync', // it need not survive the machine
    `--listen-client-urls=${of.url}`,
    `--advertise-client-urls=${of.url}`,
    `--listen-peer-urls=${of.peerUrl}`,
    `--initial-advertise-peer-urls=${of.peerUrl}`,
    `--initial-cluster=test=${of.peerUrl}`,
    '--log-level=warn',
  ]
}

function apiServerCommand(of: {
  folder: string
  host: string
  port: number
  etcdUrl: string
  addresses: NodeAddresses | null
  hasControllers: boolean
  options: ClusterOptions
  programs: Programs
}): readonly string[] {
  const pki = join(of.folder, 'pki')
  return [
    pathOf(of.programs, 'kube-apiserver'),
    `--etcd-servers=${of.etcdUrl}`,
    `--bind-address=${of.host}`,
    `--secure-port=${of.port}`,
    // An EndpointSlice takes no loopback address.
    of.addresses === null ? '--endpoint-reconciler-type=none' : `--advertise-address=${of.host}`,
    `--tls-cert-file=${join(pki, 'apiserver.crt')}`,
    `--tls-private-key-file=${join(pki, 'apiserver.key')}`,
    `--client-ca-file=${join(pki, 'ca.crt')}`,
    `--service-cluster-ip-range=${of.addresses?.serviceCidr ?? SERVICE_CIDR}`,
    '--allow-privileged=true',
    '--authorization-mode=Node,RBAC',
    '--enable-admission-plugins=NodeRestriction',
    // No controller makes the default service account that this one would put into pods.
    ...(of.hasControllers ? [] : ['--disable-admission-plugins=ServiceAccount']),
    '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
    `--service-account-signing-key-file=${join(pki, 'service-accounts.key')}`,
    `--service-account-key-file=${join(pki, 'service-accounts.key')}`,
    `--kubelet-client-certificate=${join(pki, 'kubelet-client.crt')}`,
    `--kubelet-client-key=${join(pki, 'kubelet-client.key')}`,
    `--kubelet-certificate-authority=${join(pki, 'ca.crt')}`,
    '--kubelet-preferred-address-types=InternalIP',
    `--audit-policy-file=${join(of.folder, 'audit-policy.json')}`,
    `--audit-log-path=${join(of.folder, FILES.audit)}`,
    '--audit-log-maxsize=200',
    '--audit-log-maxbackup=1',
    ...(of.options.apiServerFlags ?? []),
  ]
}

function controllersCommand(folder: string, programs: Programs): readonly string[] {
  const pki = join(folder, 'pki')
  return [
    pathOf(programs, 'kube-controller-manager'),
    `--kubeconfig=${join(folder, 'controller-manager.kubeconfig')}`,
    '--leader-elect=false',
    '--secure-port=0',
    ...UNHURRIED,
    '--use-service-account-credentials=true',
    `--root-ca-file=${join(pki, 'ca.crt')}`,
    `--service-account-private-key-file=${join(pki, 'service-accounts.key')}`,
    `--cluster-signing-cert-file=${join(pki, 'ca.crt')}`,
    `--cluster-signing-key-file=${join(pki, 'ca.key')}`,
  ]
}

function schedulerCommand(folder: string, programs: Programs): readonly string[] {
  const kubeconfig = join(folder, 'scheduler.kubeconfig')
  return [pathOf(programs, 'kube-scheduler'), `--kubeconfig=${kubeconfig}`, '--leader-elect=false', '--secure-port=0', ...UNHURRIED]
}
