/**
 * Of a pod at admission, what an injection looks at. Lenient: the API server has checked it, and fields come with versions. But for its size:
 * who is no API server can send a review, too.
 */
import { hasAtMost, listOf, mapOf } from '@farebox/crds/stranger-data.ts'
import * as z from 'zod'

/** Many times what any pod has, and a small part of what would fit into a review. */
const SPEC_VALUES_MAX = 50_000
const ENTRIES_MAX = 10_000

const Quantities = mapOf(z.union([z.string(), z.number()]), ENTRIES_MAX)
const Texts = mapOf(z.string(), ENTRIES_MAX)
export const ResourcesSchema = z.looseObject({ requests: Quantities.nullish(), limits: Quantities.nullish() })
export type Resources = z.infer<typeof ResourcesSchema>

const SecretName = z.looseObject({ name: z.string().nullish() })

const EnvVarSchema = z.looseObject({
  name: z.string(),
  value: z.string().nullish(),
  valueFrom: z.looseObject({ secretKeyRef: z.looseObject({ name: z.string().nullish(), key: z.string() }).nullish() }).nullish(),
})
export type EnvVar = z.infer<typeof EnvVarSchema>

/** Loose, since our own container is compared whole. */
const ContainerSchema = z.looseObject({
  name: z.string(),
  env: listOf(EnvVarSchema).nullish(),
  envFrom: listOf(z.looseObject({ secretRef: SecretName.nullish() })).nullish(),
  volumeMounts: listOf(z.looseObject({ name: z.string() })).nullish(),
  ports: listOf(z.looseObject({ containerPort: z.number() })).nullish(),
  resources: ResourcesSchema.nullish(),
})
export type Container = z.infer<typeof ContainerSchema>

const VolumeSchema = z.looseObject({
  name: z.string(),
  secret: z.looseObject({ secretName: z.string().nullish() }).nullish(),
  projected: z.looseObject({ sources: listOf(z.looseObject({ secret: SecretName.nullish() })).nullish() }).nullish(),
})

const SpecSchema = z.object({
  containers: listOf(ContainerSchema),
  initContainers: listOf(ContainerSchema).nullish(),
  volumes: listOf(VolumeSchema).nullish(),
  imagePullSecrets: listOf(SecretName).nullish(),
  hostNetwork: z.boolean().nullish(),
  shareProcessNamespace: z.boolean().nullish(),
  hostPID: z.boolean().nullish(),
  dnsPolicy: z.string().nullish(),
  dnsConfig: z.object({ searches: listOf(z.string()).nullish() }).nullish(),
  os: z.object({ name: z.string() }).nullish(),
  nodeSelector: Texts.nullish(),
  tolerations: listOf(
    z.looseObject({
      key: z.string().nullish(),
      operator: z.string().nullish(),
      value: z.string().nullish(),
      effect: z.string().nullish(),
    }),
  ).nullish(),
  securityContext: z.object({ runAsUser: z.number().nullish() }).nullish(),
  /** Of the pod as a whole. */
  resources: ResourcesSchema.nullish(),
})

/** What is not named here is dropped, first of all `managedFields`, which can be most of a pod. */
export const PodSchema = z.object({
  metadata: z.object({
    labels: Texts.nullish(),
    annotations: Texts.nullish(),
  }),
  spec: z
    .custom<z.input<typeof SpecSchema>>((spec) => hasAtMost(SPEC_VALUES_MAX, spec), `must have at most ${SPEC_VALUES_MAX} values`)
    .pipe(SpecSchema),
})
export type Pod = z.infer<typeof PodSchema>
