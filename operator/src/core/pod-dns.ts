/**
 * Whether a pod can find services by their names, as its sidecar finds the operator and a store in the cluster: `NAME.NAMESPACE.svc`, which
 * a resolver of the cluster completes by its domain. https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
 */
import type { Pod } from './pod.ts'

/** Nearly everywhere. Another one shows by its `svc.` in what is searched. */
const USUAL_DOMAIN = 'cluster.local'

/** A warning; null: it can, as far as its spec tells. */
export function dnsWarning({ spec: { dnsPolicy, dnsConfig } }: Pod): string | null {
  switch (dnsPolicy) {
    case 'Default':
      return 'with dnsPolicy Default it asks the resolver of its node, by which its sidecar may find neither the operator nor a store in the cluster: use ClusterFirst'
    case 'None': {
      const searched = (dnsConfig?.searches ?? []).map((domain) => domain.replace(/\.$/, ''))
      return searched.some((domain) => domain === USUAL_DOMAIN || searched.includes(`svc.${domain}`))
        ? null
        : `with dnsPolicy None its sidecar finds the operator, and a store in the cluster, only if dnsConfig.searches has the domain of the cluster (${USUAL_DOMAIN})`
    }
    default:
      return null
  }
}
