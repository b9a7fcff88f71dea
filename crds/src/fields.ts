/** Field schemas that several kinds share: bounded, and with patterns that the API server understands (RE2). */
import * as z from 'zod'
import { DURATION_PATTERN } from './duration.ts'
import { USD_PATTERN } from './usd.ts'

export const API_VERSION = 'farebox.dev/v1alpha1'

/** An amount of money, in the currency of its tier. */
export const Amount = z.string().max(19).regex(USD_PATTERN, 'must be a decimal in quotes, such as "0.50"')
export const Percent = z.int().min(0).max(100)
export const Tokens = z.int().min(1).max(100_000_000)
export const Duration = z.string().min(2).max(18).regex(DURATION_PATTERN, 'must be a duration such as "20m" or "24h"')
/** A name of a Kubernetes object. */
export const ObjectName = z
  .string()
  .min(1)
  .max(253)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, 'must be a Kubernetes name: lower-case letters, digits, "-" and "."')
export const ModelName = z.string().min(1).max(128)
/** A model, or a pattern that ends in `*`. */
export const ModelPattern = z.string().min(1).max(128)
export const HeaderName = z.string().min(1).max(64).regex(/^[A-Za-z0-9-]+$/, 'must be a header name: letters, digits and "-"')

/** Of an object's metadata, what we read. The API server checks the rest. */
export const Metadata = z.looseObject({
  name: ObjectName,
  namespace: ObjectName.optional(),
  generation: z.int().optional(),
})

/** A status condition, as https://github.com/kubernetes/community api-conventions has it. */
export const Condition = z.strictObject({
  type: z.string().max(64),
  status: z.enum(['True', 'False', 'Unknown']),
  reason: z.string().max(64),
  message: z.string().max(1024),
  observedGeneration: z.int().min(0).optional(),
  lastTransitionTime: z.string().max(32),
})
export type Condition = z.infer<typeof Condition>
export const Conditions = z.array(Condition).max(16).meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['type'] })
