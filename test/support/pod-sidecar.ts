/**
 * The sidecar of a pod that was admitted, as the kubelet would run it: a process of its own with the environment, the files and the
 * token that its container asks for. There is no node: the pod itself stays where it is.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CONFIG_KEYS, PATHS, SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import OpenAI from 'openai'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from './wait-for.ts'
import { endsWithUs } from './children.ts'
import { onFreePorts } from './free-ports.ts'
import { SIDECAR_MAIN } from './programs.ts'

const LOG_KEPT = 2 * 1_048_576

export interface Container {
  readonly name: string
  readonly image?: string
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: ValueSource }[]
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[]
}
interface ValueSource {
  readonly fieldRef?: { readonly fieldPath: string }
}
interface Items {
  readonly items?: readonly { readonly key: string; readonly path: string }[]
}
interface Volume {
  readonly name: string
  readonly configMap?: Items & { readonly name: string }
  readonly secret?: Items & { readonly secretName: string }
  readonly projected?: {
    readonly sources: readonly {
      readonly serviceAccountToken?: { readonly audience: string; readonly path: string }
      readonly secret?: Items & { readonly name: string }
    }[]
  }
}
export interface Pod {
  readonly metadata: {
    readonly name: string
    readonly namespace: string
    readonly uid: string
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly spec: {
    readonly containers: readonly Container[]
    readonly initContainers?: readonly Container[]
    readonly volumes?: readonly Volume[]
    readonly serviceAccountName?: string
  }
}

export interface PodSidecar {
  readonly pod: Pod
  readonly url: string
  readonly adminUrl: string
  readonly process: ChildProcess
  log(): string
  status(): Promise<SidecarStatus>
  /** The real client on the data plane. */
  client(headers?: Readonly<Record<string, string>>): OpenAI
  /** What the kubelet does now and then: the mounted config map and Secrets as they are by now. */
  mount(): Promise<void>
  /** Puts a text in the place of the mounted config, as nobody should be able to. */
  writeConfig(text: string): void
  /** SIGKILL. */
  kill(): Promise<void>
}

/** Creates a pod, which no node runs. Throws with what the API server says when it refuses. */
export async function createPod(
  cluster: Cluster,
  namespace: string,
  pod: { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly spec?: object },
): Promise<Pod> {
  const { status, body } = await cluster.request<Pod & { readonly message?: string }>({
    method: 'POST',
    path: `/api/v1/namespaces/${namespace}/pods`,
    body: {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: pod.name, labels: pod.labels },
      spec: { containers: [{ name: 'app', image: 'app:1' }], ...pod.spec },
    },
  })
  if (status !== 201) throw new Error(`pod ${pod.name}: ${status} ${body.message ?? JSON.stringify(body)}`)
  return body
}

export function sidecarOf(pod: Pod): Container | null {
  return pod.spec.initContainers?.find(({ name }) => name === SIDECAR_CONTAINER) ?? null
}

/** Returns once it serves. */
export async function startPodSidecar(cluster: Cluster, pod: Pod, environment: Readonly<Record<string, string>> = {}): Promise<PodSidecar> {
  return onFreePorts(2, ([port = 0, adminPort = 0]) => startOn({ port, adminPort }, cluster, pod, environment))
}

async function startOn(
  { port, adminPort }: { readonly port: number; readonly adminPort: number },
  cluster: Cluster,
  pod: Pod,
  environment: Readonly<Record<string, string>>,
): Promise<PodSidecar> {
  const container = sidecarOf(pod)
  if (container === null) throw new Error(`pod ${pod.metadata.name} has no sidecar: ${JSON.stringify(pod.metadata.annotations)}`)
  const folder = mkdtempSync(join(tmpdir(), 'farebox-pod-'))
  const mounts = container.volumeMounts ?? []
  const onHost = (value: string): string => {
    const mount = mounts.find(({ mountPath }) => value === mountPath || value.startsWith(`${mountPath}/`))
    return mount === undefined ? value : join(folder, mount.name, value.slice(mount.mountPath.length))
  }
  const mount = async (): Promise<void> => {
    for (const { name } of mounts) {
      mkdirSync(join(folder, name), { recursive: true })
      const volume = pod.spec.volumes?.find((volume) => volume.name === name)
      for (const [path, content] of await filesOf(cluster, pod, volume)) {
        writeFileSync(join(folder, name, `${path}.new`), content)
        renameSync(join(folder, name, `${path}.new`), join(folder, name, path))
      }
    }
  }
  const values = (container.env ?? []).map(({ name, value, valueFrom }): [string, string] => {
    if (value !== undefined) return [name, onHost(value)]
    return [name, valueFrom?.fieldRef?.fieldPath === 'metadata.namespace' ? pod.metadata.namespace : pod.metadata.name]
  })
  await mount()
  let log = ''
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', SIDECAR_MAIN], {
    env: {
      ...process.env,
      ...Object.fromEntries(values),
      FAREBOX_LISTEN: `127.0.0.1:${port}`,
      FAREBOX_ADMIN: `127.0.0.1:${adminPort}`,
      ...environment,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  child.stderr.on('data', (chunk: Buffer) => {
    log = `${log}${chunk.toString()}`.slice(-LOG_KEPT)
  })
  endsWithUs(child)
  const exited = once(child, 'exit')
  const url = `http://127.0.0.1:${port}`
  const adminUrl = `http://127.0.0.1:${adminPort}`
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await exited
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    const is = await waitFor('the sidecar', async () =>
      child.exitCode === null ? (await fetch(`${adminUrl}/startz`)).ok && ('up' as const) : ('ended' as const),
    )
    if (is === 'ended') throw new Error('it ended')
  } catch (error) {
    await kill()
    throw new Error(`the sidecar of ${pod.metadata.name} did not start (${String(error)}):\n${log.slice(-6_000)}`, { cause: error })
  }
  return {
    pod,
    url,
    adminUrl,
    process: child,
    log: () => log,
    status: async () => (await (await fetch(`${url}/farebox/v1/status`)).json()) as SidecarStatus,
    client: (headers = {}) =>
      new OpenAI({ baseURL: `${url}/openai/v1`, apiKey: 'test', defaultHeaders: headers, maxRetries: 0, timeout: 30_000 }),
    mount,
    writeConfig(text) {
      const path = onHost(`${PATHS.config}/${CONFIG_KEYS.config}`)
      writeFileSync(`${path}.new`, text)
      renameSync(`${path}.new`, path)
    },
    kill,
  }
}

type Files = readonly (readonly [path: string, content: string | Buffer])[]

async function filesOf(cluster: Cluster, pod: Pod, volume: Volume | undefined): Promise<Files> {
  if (volume?.configMap !== undefined) {
    const data = await dataOf(cluster, pod, 'configmaps', volume.configMap.name)
    return Object.entries(data)
  }
  if (volume?.secret !== undefined) return secretFiles(cluster, pod, volume.secret.secretName, volume.secret)
  const files: (readonly [string, string | Buffer])[] = []
  for (const { serviceAccountToken, secret } of volume?.projected?.sources ?? []) {
    if (serviceAccountToken !== undefined)
      files.push([serviceAccountToken.path, await boundToken(cluster, pod, serviceAccountToken.audience)])
    if (secret !== undefined) files.push(...(await secretFiles(cluster, pod, secret.name, secret)))
  }
  return files
}

async function secretFiles(cluster: Cluster, pod: Pod, name: string, { items }: Items): Promise<Files> {
  const data = await dataOf(cluster, pod, 'secrets', name)
  const chosen = items ?? Object.keys(data).map((key) => ({ key, path: key }))
  return chosen.map(({ key, path }) => [path, Buffer.from(data[key] ?? '', 'base64')])
}

/** Empty where there is none. */
async function dataOf(cluster: Cluster, pod: Pod, plural: string, name: string): Promise<Record<string, string>> {
  const { status, body } = await cluster.request<{ readonly data?: Record<string, string> }>({
    path: `/api/v1/namespaces/${pod.metadata.namespace}/${plural}/${name}`,
  })
  return status === 200 ? (body.data ?? {}) : {}
}

/** As the kubelet asks for it: for this pod, and no longer than that lives. */
export async function boundToken(cluster: Cluster, { metadata, spec }: Pod, audience: string): Promise<string> {
  const { status, body } = await cluster.request<{ readonly status?: { readonly token?: string } }>({
    method: 'POST',
    path: `/api/v1/namespaces/${metadata.namespace}/serviceaccounts/${spec.serviceAccountName ?? 'default'}/token`,
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: [audience],
        expirationSeconds: 3_600,
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: metadata.name, uid: metadata.uid },
      },
    },
  })
  const token = body.status?.token
  if (token === undefined) throw new Error(`no token for pod ${metadata.name}: ${status} ${JSON.stringify(body)}`)
  return token
}
