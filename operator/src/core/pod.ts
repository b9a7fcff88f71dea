/** Of a pod at admission, what an injection looks at. Lenient: the API server has checked it, and fields come with versions. */
import * as z from 'zod'

const Quantities = z.record(z.string(), z.union([z.string(), z.number()]))
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
  env: z.array(EnvVarSchema).nullish(),
  envFrom: z.array(z.looseObject({ secretRef: SecretName.nullish() })).nullish(),
  volumeMounts: z.array(z.looseObject({ name: z.string() })).nullish(),
  ports: z.array(z.looseObject({ containerPort: z.number() })).nullish(),
  resources: ResourcesSchema.nullish(),
})
export type Container = z.infer<typeof ContainerSchema>

const VolumeSchema = z.looseObject({
  name: z.string(),
  secret: z.looseObject({ secretName: z.string().nullish() }).nullish(),
  projected: z.looseObject({ sources: z.array(z.looseObject({ secret: SecretName.nullish() })).nullish() }).nullish(),
})

/** What is not named here is dropped, first of all `managedFields`, which can be most of a pod. */
export const PodSchema = z.object({
  metadata: z.object({
    labels: z.record(z.string(), z.string()).nullish(),
    annotations: z.record(z.string(), z.string()).nullish(),
  }),
  spec: z.object({
    containers: z.array(ContainerSchema),
    initContainers: z.array(ContainerSchema).nullish(),
    volumes: z.array(VolumeSchema).nullish(),
    imagePullSecrets: z.array(SecretName).nullish(),
    hostNetwork: z.boolean().nullish(),
    shareProcessNamespace: z.boolean().nullish(),
    hostPID: z.boolean().nullish(),
    os: z.object({ name: z.string() }).nullish(),
    nodeSelector: z.record(z.string(), z.string()).nullish(),
    securityContext: z.object({ runAsUser: z.number().nullish() }).nullish(),
    /** Of the pod as a whole. */
    resources: ResourcesSchema.nullish(),
  }),
})
export type Pod = z.infer<typeof PodSchema>
