/** Which namespaces a webhook is asked about, by its MutatingWebhookConfiguration as the API server has it. */
import * as z from 'zod'
import { matches } from './selector.ts'
import type { Labels } from './selector.ts'

const SelectorSchema = z.object({
  matchLabels: z.record(z.string(), z.string()).prefault({}),
  matchExpressions: z
    .array(
      z.object({
        key: z.string(),
        operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
        values: z.array(z.string()).prefault([]),
      }),
    )
    .prefault([]),
})
const ConfigurationSchema = z.object({ webhooks: z.array(z.object({ namespaceSelector: SelectorSchema.prefault({}) })) })

/** Of each of its webhooks. None: nobody is left out, as far as can be read. */
export type NamespaceSelectors = readonly z.infer<typeof SelectorSchema>[]

export function namespaceSelectorsOf(configuration: unknown): NamespaceSelectors {
  const parsed = ConfigurationSchema.safeParse(configuration)
  return parsed.success ? parsed.data.webhooks.map(({ namespaceSelector }) => namespaceSelector) : []
}

/** `labels`: the namespace's. */
export function leavesOut(selectors: NamespaceSelectors, labels: Labels): boolean {
  return selectors.length > 0 && !selectors.some((selector) => matches(selector, labels))
}
