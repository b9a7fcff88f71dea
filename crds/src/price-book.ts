/** PriceBook: prices of models and rates of exchange, on top of the catalogue that is shipped. Cluster-scoped. */
import * as z from 'zod'
import { API_VERSION, Conditions, Metadata } from './fields.ts'
import { PriceEntrySchema } from './price-entry.ts'
import { PRICE_PATTERN } from './usd.ts'

const Spec = z.strictObject({
  entries: z.array(PriceEntrySchema).max(256).default([]).describe('Prices of models; what an entry leaves out follows the catalogue.'),
  exchangeRates: z
    .record(z.string().max(3).regex(/^[A-Z]{3}$/), z.string().max(14).regex(PRICE_PATTERN, 'must be a decimal in quotes, such as "1.08"'))
    .default({})
    .describe('US dollars for one unit of a currency: `EUR: "1.08"`.'),
})
const Status = z.strictObject({ observedGeneration: z.int().min(0).optional(), conditions: Conditions.optional(), entries: z.int().min(0).optional() })

export const PriceBookSchema = z.strictObject({
  apiVersion: z.enum([API_VERSION]),
  kind: z.enum(['PriceBook']),
  metadata: Metadata,
  spec: Spec,
  status: Status.optional(),
})
export type PriceBook = z.infer<typeof PriceBookSchema>
export type PriceBookStatus = z.infer<typeof Status>
