/**
 * A node that runs pods on this machine: containerd, kubelet, kube-proxy and a cluster DNS in network, mount, process and host
 * name namespaces of their own. Its first process is `pause`: when that is killed the kernel ends all others, pods included,
 * and takes their mounts and interfaces away.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { sign } from './certificates.ts'
import { kubeconfigText } from './cluster.ts'
import type { Cluster } from './cluster.ts'
import { importImage, pauseImage } from './images.ts'
import { order } from './keeper-client.ts'
import { entering } from './on-node.ts'
import { pathOf } from './programs.ts'
import type { Programs } from './programs.ts'
import { packageOf, requirePackages } from './system-packages.ts'
import { waitFor } from '../support/wait-for.ts'

/** A node cannot be had here, whatever is installed: it takes Linux and root. */
export class NodeImpossible extends Error {}
/** It could be had, but the kernel does not let root make namespaces. */
export class NodeMissing extends Error {}

export interface NodeAddresses {
  readonly name: string
  /** The machine's end of the link to the node, and the node's. */
  readonly host: string
  readonly ip: string
  readonly podCidr: string
  readonly serviceCidr: string
  readonly serviceFirst: string
  /** Of the node's first process, as this machine counts. */
  readonly pid: number
  /** Socket of containerd. */
  readonly engine: string
}

/** Debian's package for each program that a node needs of the system. */
const TOOLS: Readonly<Record<string, string>> = {
  containerd: 'containerd',
  runc: 'runc',
  conntrack: 'conntrack',
  iptables: 'iptables',
  nft: 'nftables',
  ip: 'iproute2',
  nsenter: 'util-linux',
  unshare: 'util-linux',
}
const PLUGIN_FOLDERS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'] as const
const NODES_MAX = 200
const READY_MS_MAX = 60_000
const ENGINE_MS_MAX = 20_000
/** Of statfs: a file system on which another of its kind cannot be laid. */
const OVERLAY_MAGIC = 0x79_4c_76_30
const DNS_USER = 'farebox-test-dns'
const PAUSE_IMAGE = 'docker.io/farebox-test/pause:1'

/** Checks that a node can be had, and installs what is missing where that is ours to do. Throws `NodeImpossible`, or `PackagesMissing`. */
export function requireNodeTools(say: (line: string) => void): void {
  if (process.platform !== 'linux') throw new NodeImpossible('a node takes Linux')
  if (process.getuid?.() !== 0) throw new NodeImpossible('a node takes root: run it again as root')
  const hasPlugins = { name: 'containernetworking-plugins', isThere: () => pluginFolder() !== null }
  requirePackages('a node', [...Object.entries(TOOLS).map(([program, name]) => packageOf(program, name)), hasPlugins], say)
}

function pluginFolder(): string | null {
  return PLUGIN_FOLDERS.find((folder) => existsSync(join(folder, 'bridge'))) ?? null
}

/** Makes the namespaces, and a link into them with addresses that no other node here has. */
export async function startNodeNamespaces(folder: string, programs: Programs): Promise<NodeAddresses> {
  const home = join(folder, 'node')
  mkdirSync(join(home, 'logs'), { recursive: true })
  const namespaces = ['--net', '--mount', '--propagation=private', '--pid', '--uts', '--ipc', '--fork', '--kill-child']
  const command = ['unshare', ...namespaces, pathOf(programs, 'pause')]
  const { pid: parent } = await order(folder, { do: 'start', name: 'node', command, isWrapped: true })
  const pid = await waitFor('the first process of the node', () => childOf(parent ?? 0), { withinMs: 5_000, everyMs: 5 }).catch(() => {
    const said = readFileSync(join(folder, 'log', 'node.log'), 'utf8').trim()
    throw new NodeMissing(`a node takes namespaces, which root may not make here (in a container: docker run --privileged): ${said}`)
  })
  const number = claimNumber(pid)
  const name = `farebox${number}`
  await order(folder, { do: 'cleanUp', command: ['sh', '-c', `! ip link show ${name} || ip link del ${name}`] })
  const cgroups = `for c in /sys/fs/cgroup/${name} /sys/fs/cgroup/*/${name}; do [ ! -d "$c" ] || find "$c" -depth -type d -exec rmdir {} + || exit 1; done`
  await order(folder, { do: 'cleanUp', command: ['sh', '-c', cgroups] })
  const addresses: NodeAddresses = {
    name,
    host: `10.213.${number}.1`,
    ip: `10.213.${number}.2`,
    podCidr: `10.244.${number}.0/24`,
    serviceCidr: `10.96.${number}.0/24`,
    serviceFirst: `10.96.${number}.1`,
    pid,
    engine: join(home, 'containerd.sock'),
  }
  const { host, ip, podCidr, serviceCidr } = addresses
  run('ip', 'addr', 'add', `${host}/30`, 'dev', name)
  run('ip', 'link', 'set', name, 'up')
  inNode(
    pid,
    `set -e
    mount -t proc proc /proc
    mount -t tmpfs tmpfs /run
    mkdir -p /run/lock /run/cni /var/log
    mount --bind '${join(home, 'logs')}' /var/log
    hostname ${name}
    ip link set lo up
    ip addr add ${ip}/30 dev eth0
    ip link set eth0 up
    ip route add default via ${host}
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet`,
  )
  run('ip', 'route', 'add', podCidr, 'via', ip)
  run('ip', 'route', 'add', serviceCidr, 'via', ip)
  makeCgroups(name)
  return addresses
}

/** Starts its programs in them, and waits until the node is ready for pods. */
export async function startNode(cluster: Cluster, addresses: NodeAddresses, programs: Programs): Promise<void> {
  const home = join(cluster.folder, 'node')
  for (const name of ['cni', 'root', 'kubelet', 'opt']) mkdirSync(join(home, name), { recursive: true })
  const file = (name: string, content: string | object): string => {
    const path = join(home, name)
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content, null, 2), { mode: 0o600 })
    return path
  }
  const kubeconfigFor = async (name: string, user: string, groups: readonly string[], hosts: readonly string[] = []): Promise<string> => {
    const pair = await sign(cluster.authority, { name: user, groups, hosts })
    const credentials = {
      'client-certificate': file(`${name}.crt`, pair.certificate),
      'client-key': file(`${name}.key`, pair.key),
    }
    return file(`${name}.kubeconfig`, kubeconfigText({ server: cluster.server, ca: cluster.ca, credentials }))
  }
  const { name, ip, pid, podCidr } = addresses
  const start = (part: string, ...command: readonly string[]): Promise<unknown> =>
    order(cluster.folder, { do: 'start', name: part, command: [...enteringOf(pid), ...command], isWrapped: true })

  file('cni/10-pods.conflist', networkOf(podCidr))
  await start('containerd', 'containerd', '--config', file('containerd.toml', engineConfig(home)))
  const proxyKubeconfig = await kubeconfigFor('kube-proxy', 'system:kube-proxy', [])
  await start('kube-proxy', pathOf(programs, 'kube-proxy'), '--config', file('kube-proxy.json', proxyConfig(addresses, proxyKubeconfig)))
  await allowDns(cluster)
  const dnsKubeconfig = await kubeconfigFor('coredns', DNS_USER, [])
  await start('coredns', pathOf(programs, 'coredns'), '-conf', file('Corefile', corefile(ip, dnsKubeconfig)))
  await waitFor('containerd', () => engineAnswers(addresses.engine), { withinMs: ENGINE_MS_MAX })
  importImage({ ...addresses, container: null }, pauseImage(home, PAUSE_IMAGE, pathOf(programs, 'pause')))
  const kubeletKubeconfig = await kubeconfigFor('kubelet', `system:node:${name}`, ['system:nodes'], [name, ip])
  const kubelet = [
    pathOf(programs, 'kubelet'),
    '--config',
    file('kubelet.json', kubeletConfig(cluster, addresses, file('resolv.conf', ''))),
  ]
  await start(
    'kubelet',
    ...kubelet,
    `--kubeconfig=${kubeletKubeconfig}`,
    `--root-dir=${join(home, 'kubelet')}`,
    `--hostname-override=${name}`,
    `--node-ip=${ip}`,
  )
  await waitFor(
    `the node ${name}`,
    async () => {
      const { body } = await cluster.request<{ status?: { conditions?: readonly { readonly type: string; readonly status: string }[] } }>({
        path: `/api/v1/nodes/${name}`,
      })
      return body.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True')
    },
    { withinMs: READY_MS_MAX },
  ).catch((error: unknown) => {
    const logs = ['containerd', 'kubelet', 'kube-proxy'].map((part) => `--- ${part}\n${cluster.logOf(part, 2_000)}`)
    throw new Error(`the node did not become ready\n${logs.join('\n')}`, { cause: error })
  })
}

function inNode(pid: number, script: string): void {
  const [program = 'nsenter', ...args] = enteringOf(pid)
  run(program, ...args, 'sh', '-c', script)
}

function enteringOf(pid: number): readonly string[] {
  return entering({ pid, container: null })
}

function run(program: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${stderr.trim()}`)
}

function childOf(pid: number): number | null {
  const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0])
  return child > 0 && readFileSync(`/proc/${child}/comm`, 'utf8').trim() === 'pause' ? child : null
}

/** The link's name is the claim: of two who want one number, the kernel lets one have it. */
function claimNumber(pid: number): number {
  const taken = spawnSync('sh', ['-c', 'ip -o addr; ip route'], { encoding: 'utf8' }).stdout
  for (let number = 1; number <= NODES_MAX; number++) {
    if (new RegExp(`\\b10[.](213|244|96)[.]${number}[.]`).test(taken)) continue
    const link = ['link', 'add', `farebox${number}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid)]
    const { status, stderr } = spawnSync('ip', link, { encoding: 'utf8' })
    if (status === 0) return number
    if (!stderr.includes('File exists')) throw new Error(`a link to the node could not be made: ${stderr.trim()}`)
  }
  throw new Error(`there are ${NODES_MAX} nodes on this machine`)
}

/**
 * With version 1 there is a tree for each controller, and a new cpuset is empty until told. With version 2 those that may not be handed
 * on (a machine that is a container itself) are left out: the kubelet says which it cannot do without.
 */
function makeCgroups(name: string): void {
  run(
    'sh',
    '-c',
    `set -e
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
      for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control || true; done
      mkdir -p /sys/fs/cgroup/${name}
    else
      for c in /sys/fs/cgroup/*/; do [ ! -e "$c/cgroup.procs" ] || mkdir -p "$c/${name}"; done
      if [ -e /sys/fs/cgroup/cpuset/${name}/cpuset.cpus ]; then
        cat /sys/fs/cgroup/cpuset/cpuset.cpus >/sys/fs/cgroup/cpuset/${name}/cpuset.cpus
        cat /sys/fs/cgroup/cpuset/cpuset.mems >/sys/fs/cgroup/cpuset/${name}/cpuset.mems
      fi
    fi 2>/dev/null`,
  )
}

/** The plugins of Debian speak 0.4.0. */
function networkOf(podCidr: string): object {
  return {
    cniVersion: '0.4.0',
    name: 'pods',
    plugins: [
      {
        type: 'bridge',
        bridge: 'cni0',
        isGateway: true,
        ipMasq: false,
        hairpinMode: true,
        ipam: { type: 'host-local', dataDir: '/run/cni', ranges: [[{ subnet: podCidr }]], routes: [{ dst: '0.0.0.0/0' }] },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  }
}

function engineConfig(home: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"'
  const snapshotter = statfsSync(home).type === OVERLAY_MAGIC ? 'native' : 'overlayfs'
  return `version = 2
root = "${join(home, 'root')}"
state = "/run/containerd"
[grpc]
  address = "${join(home, 'containerd.sock')}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${join(home, 'opt')}"
[${cri}]
  sandbox_image = "${PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE, runc cannot lower the score and ends.
  restrict_oom_score_adj = true
  disable_apparmor = true
  [${cri}.cni]
    bin_dir = "${pluginFolder()}"
    conf_dir = "${join(home, 'cni')}"
  [${cri}.containerd]
    snapshotter = "${snapshotter}"
    default_runtime_name = "runc"
    [${cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [${cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
`
}

function kubeletConfig(cluster: Cluster, { name, ip, engine }: NodeAddresses, resolvConf: string): object {
  const home = join(cluster.folder, 'node')
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${engine}`,
    address: ip,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(cluster.folder, 'pki', 'ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: join(home, 'kubelet.crt'),
    tlsPrivateKeyFile: join(home, 'kubelet.key'),
    clusterDNS: [ip],
    clusterDomain: 'cluster.local',
    resolvConf,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: `/${name}`,
    failCgroupV1: false,
    failSwapOn: false,
    // This machine's disk is not the node's to watch over.
    localStorageCapacityIsolation: false,
    imageGCHighThresholdPercent: 100,
    evictionHard: { 'imagefs.available': '0%', 'nodefs.available': '0%', 'nodefs.inodesFree': '0%' },
    // How soon a pod sees that a ConfigMap it mounts has changed; a minute by default.
    syncFrequency: '10s',
    registryPullQPS: 0,
    serializeImagePulls: false,
  }
}

function proxyConfig({ name, podCidr, pid }: NodeAddresses, kubeconfig: string): object {
  const [program = 'nsenter', ...args] = enteringOf(pid)
  const hasNft = spawnSync(program, [...args, 'nft', 'list', 'ruleset'], { stdio: 'ignore' }).status === 0
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    clientConnection: { kubeconfig },
    clusterCIDR: podCidr,
    mode: hasNft ? 'nftables' : 'iptables',
    bindAddress: '0.0.0.0',
    healthzBindAddress: '',
    metricsBindAddress: '',
    hostnameOverride: name,
    // The limits are the machine's, and not ours to set.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
  }
}

/** Names of Services and nothing else: what is outside is not for tests. */
function corefile(ip: string, kubeconfig: string): string {
  return `.:53 {
  bind ${ip}
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig ${kubeconfig}
    ttl 0
  }
}
`
}

async function allowDns(cluster: Cluster): Promise<void> {
  const rbac = 'rbac.authorization.k8s.io'
  const metadata = { name: DNS_USER }
  const read = ['list', 'watch']
  const rules = [
    { apiGroups: [''], resources: ['services', 'namespaces', 'pods', 'endpoints'], verbs: read },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
  ]
  const objects = [
    { apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata, rules },
    {
      apiVersion: `${rbac}/v1`,
      kind: 'ClusterRoleBinding',
      metadata,
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: DNS_USER },
      subjects: [{ apiGroup: rbac, kind: 'User', name: DNS_USER }],
    },
  ]
  for (const body of objects) {
    const path = `/apis/${rbac}/v1/${body.kind.toLowerCase()}s`
    const { status } = await cluster.request({ method: 'POST', path, body })
    if (status !== 201) throw new Error(`${path} was answered with ${status}`)
  }
}

function engineAnswers(socket: string): boolean {
  return spawnSync('ctr', ['--address', socket, 'version'], { stdio: 'ignore' }).status === 0
}
