/** Where there is no node: pods as a kubelet would have started them, by their status alone. */
import { SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import type { Cluster } from '../cluster/cluster.ts'

export interface ListedPod {
  readonly metadata: { readonly name: string; readonly uid: string; readonly labels: Readonly<Record<string, string>> }
  readonly spec: { readonly initContainers?: readonly { readonly name: string }[] }
  readonly status: { readonly phase: string }
}

export async function podsIn(cluster: Cluster, namespace: string): Promise<readonly ListedPod[]> {
  const { status, body } = await cluster.request<{ readonly items: readonly ListedPod[] }>({ path: `/api/v1/namespaces/${namespace}/pods` })
  if (status !== 200) throw new Error(`the pods of ${namespace}: ${status}`)
  return body.items
}

export function hasSidecar({ spec }: ListedPod): boolean {
  return spec.initContainers?.some(({ name }) => name === SIDECAR_CONTAINER) === true
}

/** It runs, and is ready. */
export async function startPod(cluster: Cluster, namespace: string, name: string): Promise<void> {
  const body = { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } }
  await cluster.request({ method: 'PATCH', path: `/api/v1/namespaces/${namespace}/pods/${name}/status`, body })
}

/** Starts all that have a sidecar, and gives all pods as they were before that. */
export async function startInjected(cluster: Cluster, namespace: string): Promise<readonly ListedPod[]> {
  const pods = await podsIn(cluster, namespace)
  for (const pod of pods) if (hasSidecar(pod) && pod.status.phase === 'Pending') await startPod(cluster, namespace, pod.metadata.name)
  return pods
}
