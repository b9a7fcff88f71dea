/** A cluster that runs, as tests hold it. Any process can: all it needs to know is in the cluster's folder. */
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { Agent, request as send } from 'node:https'
import { join } from 'node:path'
import { json, text } from 'node:stream/consumers'
import { sign } from './certificates.ts'
import type { KeyPair } from './certificates.ts'
import { endAll, order } from './keeper-client.ts'
import { HELM, helmProgram } from './programs.ts'
import type { ProgramName } from './programs.ts'
import { waitFor } from '../support/wait-for.ts'

/** What `cluster.json` says. */
export interface ClusterState {
  /** `https://HOST:PORT` */
  readonly server: string
  /** This machine, as the API server and pods reach it: 127.0.0.1 where there is no node. */
  readonly host: string
  readonly etcdUrl: string
  readonly programs: Readonly<Partial<Record<ProgramName, string>>>
  /** By which its parts were started; none where they cannot be stopped one by one. */
  readonly commands: Readonly<Partial<Record<Part, readonly string[]>>>
  /** Are there controllers and a scheduler? Without: no default service accounts, and namespaces that never end. */
  readonly hasControllers: boolean
  readonly node: NodeState | null
}
export type Part = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler'
export interface NodeState {
  readonly name: string
  readonly ip: string
  readonly podCidr: string
  /** Of the first process of the node's namespaces, as this machine counts; 0 where the node is a container. */
  readonly pid: number
  /** Of Docker, that is the node; null where it is a set of namespaces. */
  readonly container: string | null
  /** Socket of its container engine. */
  readonly engine: string
}

export interface Output {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}
export interface RunOptions {
  /** Its stdin. */
  readonly input?: string
  /** Give what it said instead of throwing, when it fails. */
  readonly mayFail?: boolean
  /** Path; the admin's when absent. */
  readonly kubeconfig?: string
  /** 2 minutes when absent. */
  readonly timeoutMs?: number
}
export interface ApiRequest {
  /** GET when absent. */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** With its query. */
  readonly path: string
  readonly body?: unknown
  /** JSON when absent, a merge patch of a PATCH. */
  readonly contentType?: string
  /** Who asks; the admin when absent. */
  readonly token?: string
}

/** Files of a cluster's folder. */
export const FILES = { state: 'cluster.json', kubeconfig: 'admin.kubeconfig', audit: 'audit.log' } as const
const RUN_MS_MAX = 120_000
const READY_MS_MAX = 60_000
const OUTPUT_BYTES_MAX = 64 * 1_048_576

export class Cluster {
  readonly folder: string
  readonly state: ClusterState
  /** Of a user in `system:masters`. */
  readonly kubeconfig: string
  /** Every request that was answered but those of the control plane itself: one JSON `Event` of audit.k8s.io/v1 a line, level Metadata. */
  readonly auditLog: string
  readonly authority: KeyPair
  readonly admin: KeyPair
  readonly #agent: Agent
  readonly #anonymous: Agent

  /** Attaches to the cluster in `folder`. Throws when there is none. */
  constructor(folder: string) {
    this.folder = folder
    this.state = JSON.parse(readFileSync(join(folder, FILES.state), 'utf8')) as ClusterState
    this.kubeconfig = join(folder, FILES.kubeconfig)
    this.auditLog = join(folder, FILES.audit)
    this.authority = readKeyPair(folder, 'ca')
    this.admin = readKeyPair(folder, 'admin')
    const ca = this.authority.certificate
    this.#agent = new Agent({ ca, cert: this.admin.certificate, key: this.admin.key, keepAlive: true, maxSockets: 32 })
    this.#anonymous = new Agent({ ca, keepAlive: true, maxSockets: 32 })
  }

  /** Was it stopped, by anyone? */
  get isStopped(): boolean {
    return !existsSync(this.folder)
  }

  get server(): string {
    return this.state.server
  }

  get host(): string {
    return this.state.host
  }

  /** PEM of the authority that the API server's certificate is by. */
  get ca(): string {
    return this.authority.certificate
  }

  /** Throws with what it said when it fails, unless it may. */
  kubectl(args: readonly string[], options: RunOptions = {}): Promise<Output> {
    return this.#run(this.state.programs.kubectl ?? 'kubectl', args, options)
  }

  /** Helm 4, or 3; built when it is first asked for. */
  async helm(
    args: readonly string[],
    { major = 4, ...options }: RunOptions & { readonly major?: keyof typeof HELM } = {},
  ): Promise<Output> {
    return this.#run(this.state.programs[HELM[major]] ?? (await helmProgram(major)), args, options)
  }

  /** One request to the API server. Its status and what it said, text where that is no JSON: `T` is what the caller takes it for. */
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- tests know what they asked for
  request<T = unknown>({
    method = 'GET',
    path,
    body,
    contentType,
    token,
  }: ApiRequest): Promise<{ readonly status: number; readonly body: T }> {
    const headers: Record<string, string> = { accept: 'application/json, */*;q=0.5' }
    if (token !== undefined) headers['authorization'] = `Bearer ${token}`
    if (body !== undefined)
      headers['content-type'] = contentType ?? (method === 'PATCH' ? 'application/merge-patch+json' : 'application/json')
    return new Promise((resolve, reject) => {
      const agent = token === undefined ? this.#agent : this.#anonymous
      const request = send(new URL(path, this.server), { method, headers, agent, timeout: RUN_MS_MAX }, (response) => {
        const isJson = response.headers['content-type']?.includes('json') === true
        const said = (isJson ? json(response) : text(response)) as Promise<T>
        said.then((body) => resolve({ status: response.statusCode ?? 0, body }), reject)
      })
      request.on('error', (cause) => reject(new Error(`${method} ${path}: ${cause.message}`, { cause })))
      request.on('timeout', () => request.destroy(new Error(`${method} ${path} was not answered`)))
      request.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body))
    })
  }

  /** Writes a kubeconfig for a user of that name and those groups, who may do what is bound to them; gives its path. */
  async kubeconfigOf(name: string, groups: readonly string[] = []): Promise<string> {
    const pair = await sign(this.authority, { name, groups })
    return this.#writeKubeconfig(name, { 'client-certificate-data': base64(pair.certificate), 'client-key-data': base64(pair.key) })
  }

  /** A token of that service account for `audiences` (absent: the API server's), valid for an hour. */
  async tokenOf(namespace: string, name: string, audiences?: readonly string[]): Promise<string> {
    const { status, body } = await this.request<{ readonly status?: { readonly token?: string } }>({
      method: 'POST',
      path: `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`,
      body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences, expirationSeconds: 3_600 } },
    })
    const token = body.status?.token
    if (token === undefined) throw new Error(`no token for ${namespace}/${name}: ${status} ${JSON.stringify(body)}`)
    return token
  }

  /** Writes a kubeconfig for that service account, with a token that is valid for an hour; gives its path. */
  async kubeconfigOfServiceAccount(namespace: string, name: string): Promise<string> {
    return this.#writeKubeconfig(`${namespace}-${name}`, { token: await this.tokenOf(namespace, name) })
  }

  /** SIGKILL. Throws when it does not run. */
  async kill(part: Part): Promise<void> {
    await order(this.folder, { do: 'signal', name: part, signal: 'SIGKILL' })
  }

  /** Starts it as it was started before; it need not come up, and ends by itself when it cannot. Throws when it runs. */
  async start(part: Part): Promise<void> {
    await order(this.folder, { do: 'start', name: part, command: this.state.commands[part] ?? [] })
  }

  async isRunning(part: Part): Promise<boolean> {
    return ((await order(this.folder, { do: 'look', name: part })).pid ?? null) !== null
  }

  /** `SIGSTOP`, and `SIGCONT` after it. */
  async signalApiServer(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    await order(this.folder, { do: 'signal', name: 'kube-apiserver', signal })
  }

  /** Starts it after it was killed, at the same address, and waits until it is ready. */
  async startApiServer(): Promise<void> {
    await this.start('kube-apiserver')
    await this.ready()
  }

  /** Waits until the API server says that it is. Throws what it logged when it ended, or when it takes longer than a minute. */
  async ready(): Promise<void> {
    const is = await waitFor(
      'the API server',
      async () => {
        if (!(await this.isRunning('kube-apiserver'))) return 'ended' as const
        return (await this.#isReady()) ? ('ready' as const) : null
      },
      { withinMs: READY_MS_MAX, everyMs: 20 },
    )
    if (is === 'ended') throw new Error(`the API server ended:\n${this.logOf('kube-apiserver')}`)
  }

  /** The end of what a process of the cluster logged: `etcd`, `kube-apiserver`, `kubelet`, ... */
  logOf(name: string, charactersMax = 4_000): string {
    const path = join(this.folder, 'log', `${name}.log`)
    return existsSync(path) ? readFileSync(path, 'utf8').slice(-charactersMax) : ''
  }

  /** Lets go of it: it goes on running. */
  detach(): void {
    this.#agent.destroy()
    this.#anonymous.destroy()
  }

  /** Ends all of it, and removes its folder. */
  async stop(): Promise<void> {
    this.detach()
    if (!this.isStopped) await endAll(this.folder)
  }

  #isReady(): Promise<boolean> {
    return new Promise((resolve) => {
      const request = send(new URL('/readyz', this.server), { agent: this.#agent, timeout: 1_000 }, (response) => {
        response.resume()
        resolve(response.statusCode === 200)
      })
      request.on('timeout', () => request.destroy())
      request.on('error', () => resolve(false))
      request.end()
    })
  }

  #run(program: string, args: readonly string[], { input, mayFail, kubeconfig, timeoutMs = RUN_MS_MAX }: RunOptions): Promise<Output> {
    const env = {
      ...process.env,
      KUBECONFIG: kubeconfig ?? this.kubeconfig,
      KUBECACHEDIR: join(this.folder, 'cache'),
      HELM_CACHE_HOME: join(this.folder, 'helm', 'cache'),
      HELM_CONFIG_HOME: join(this.folder, 'helm', 'config'),
      HELM_DATA_HOME: join(this.folder, 'helm', 'data'),
    }
    return new Promise((resolve, reject) => {
      const child = execFile(program, args, { env, timeout: timeoutMs, maxBuffer: OUTPUT_BYTES_MAX }, (error, stdout, stderr) => {
        if (error === null) return resolve({ code: 0, stdout, stderr })
        if (typeof error.code === 'number' && mayFail === true) return resolve({ code: error.code, stdout, stderr })
        reject(new Error(`${args.join(' ')} failed (${error.code ?? error.signal}): ${stderr.trim() || error.message}`, { cause: error }))
      })
      child.stdin?.on('error', () => undefined) // it need not read to the end
      child.stdin?.end(input ?? '')
    })
  }

  #writeKubeconfig(user: string, credentials: Readonly<Record<string, string>>): string {
    const path = join(this.folder, `${user.replaceAll(/[^\w.-]/g, '-')}.kubeconfig`)
    writeFileSync(path, kubeconfigText({ server: this.server, ca: this.ca, credentials }), { mode: 0o600 })
    return path
  }
}

/** JSON, which is YAML. */
export function kubeconfigText(of: {
  readonly server: string
  /** PEM. */
  readonly ca: string
  readonly credentials: Readonly<Record<string, string>>
}): string {
  const name = 'farebox-test'
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server: of.server, 'certificate-authority-data': base64(of.ca) } }],
    users: [{ name, user: of.credentials }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    'current-context': name,
  })
}

/** `NAME.crt` and `NAME.key` in the folder's `pki`. */
export function readKeyPair(folder: string, name: string): KeyPair {
  const read = (end: string): string => readFileSync(join(folder, 'pki', `${name}.${end}`), 'utf8')
  return { certificate: read('crt'), key: read('key') }
}

function base64(of: string): string {
  return Buffer.from(of).toString('base64')
}
