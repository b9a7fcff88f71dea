/** Why a pod that waits cannot start for the container that we added to it. Pure. */
import { SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import * as z from 'zod'

/**
 * Of a pod's status, what the kubelet says of its init containers; ours is one of them. Others may hold a pod up too, as may a node that
 * there is none of: that is not told here.
 */
const StatusSchema = z.object({
  initContainerStatuses: z.array(
    z.looseObject({
      name: z.string(),
      started: z.boolean().nullish(),
      restartCount: z.int().nullish(),
      state: z.object({ waiting: z.object({ reason: z.string().nullish() }).nullish() }).nullish(),
    }),
  ),
})

/** https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go */
const OF_IMAGES: ReadonlySet<string> = new Set([
  'ErrImagePull',
  'ImagePullBackOff',
  'InvalidImageName',
  'ImageInspectError',
  'ErrImageNeverPull',
  'RegistryUnavailable',
  'SignatureValidationFailed',
])
/** https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/kuberuntime/kuberuntime_container.go */
const OF_CONTAINERS: ReadonlySet<string> = new Set([
  'CreateContainerConfigError',
  'CreateContainerError',
  'PreCreateHookError',
  'PreStartHookError',
  'PostStartHookError',
  'RunContainerError',
])
/** The first time may be an accident. */
const RESTARTS_MIN = 2

export type NotStarting = 'ImagePullFailing' | 'ContainerFailing'

/** `status`: of a pod that has not started; null: our container does not keep it from that, or nobody knows yet. */
export function notStartingFor(status: unknown): NotStarting | null {
  const parsed = StatusSchema.safeParse(status)
  const own = parsed.success ? parsed.data.initContainerStatuses.find(({ name }) => name === SIDECAR_CONTAINER) : undefined
  if (own === undefined) return null
  const reason = own.state?.waiting?.reason ?? ''
  if (OF_IMAGES.has(reason)) return 'ImagePullFailing'
  // Between two crashes it runs, or is said to have ended: how often it was begun stays.
  return OF_CONTAINERS.has(reason) || (own.started !== true && (own.restartCount ?? 0) >= RESTARTS_MIN) ? 'ContainerFailing' : null
}
