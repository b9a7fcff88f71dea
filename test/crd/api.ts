/** Our kinds in an API server, as tests ask for them. */
import { fileURLToPath } from 'node:url'
import type { Kind } from '@farebox/crds/check.ts'
import { KIND_NAMES } from '@farebox/crds/crd.ts'
import { API_VERSION } from '@farebox/crds/fields.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { established } from '../cluster/established.ts'
import type { Manifest } from './cases.ts'

export const DEFINITIONS = fileURLToPath(new URL('../../crds/generated', import.meta.url))

/** What an API server says of a request that it refuses: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/ */
export interface Refusal {
  readonly message: string
  readonly reason?: string
  readonly details?: { readonly causes?: readonly { readonly field?: string; readonly message: string; readonly reason: string }[] }
}

/** Applies the definitions as they are committed, and waits until they are served. */
export async function install(cluster: Cluster, path: string = DEFINITIONS): Promise<void> {
  await cluster.kubectl(['apply', '--server-side', '--force-conflicts', '--filename', path])
  await established(cluster, 'crd', '--all')
}

/** Of all objects of the kind, where those of the manifest would be. */
export function pathOf({ kind, metadata }: Pick<Manifest, 'kind' | 'metadata'>): string {
  const { namespace } = metadata
  const place = typeof namespace === 'string' ? `/namespaces/${namespace}` : ''
  return `/apis/${API_VERSION}${place}/${KIND_NAMES[kind satisfies Kind].plural}`
}

export function pathOfOne(manifest: Manifest): string {
  return `${pathOf(manifest)}/${String(manifest.metadata['name'])}`
}

/** Server-side apply. */
export function apply(
  cluster: Cluster,
  manifest: Manifest,
  {
    manager,
    force = false,
    subresource = '',
  }: { readonly manager: string; readonly force?: boolean; readonly subresource?: '/status' | '' },
): Promise<{ readonly status: number; readonly body: Refusal }> {
  return cluster.request<Refusal>({
    method: 'PATCH',
    path: `${pathOfOne(manifest)}${subresource}?fieldManager=${manager}&fieldValidation=Strict&force=${String(force)}`,
    contentType: 'application/apply-patch+yaml',
    body: manifest,
  })
}
