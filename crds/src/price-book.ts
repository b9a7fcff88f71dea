/** PriceBook: prices of models and rates of exchange, on top of the catalogue that is shipped. Cluster-scoped. */
import * as z from 'zod'
import { API_VERSION, boundedMap, Count, decimal, Metadata, StatusBase } from './fields.ts'
import { PriceEntrySchema } from './price-entry.ts'
import { rules } from './rules.ts'
import { PRICE_PATTERN } from './usd.ts'

const Rate = decimal(PRICE_PATTERN, 14, {
  example: '1.08',
  bounds: 'below 10 million, with at most 6 digits after the point: it is US dollars for one unit of the currency',
})
const ExchangeRates = rules(
  boundedMap(Rate, 64, {
    pattern: /^[A-Z]{3}$/,
    message: 'keys must be currency codes such as EUR',
  }),
  { rule: "!('USD' in self)", message: 'must not hold USD: every rate is in US dollars' },
  { rule: "self.all(key, !self[key].matches('^[0.]+$'))", message: 'every rate must be above zero' },
)

const Spec = z.strictObject({
  entries: z.array(PriceEntrySchema).max(256).default([]).describe('Prices of models; what an entry leaves out follows the catalogue.'),
  exchangeRates: ExchangeRates.default({}).describe('US dollars for one unit of a currency: `EUR: "1.08"`.'),
})
const Status = z.strictObject({
  ...StatusBase,
  entries: Count.optional().describe('Prices that are in use.'),
})

export const PriceBookSchema = z.strictObject({
  apiVersion: z.enum([API_VERSION]),
  kind: z.enum(['PriceBook']),
  metadata: Metadata,
  spec: Spec,
  status: Status.optional(),
})
export type PriceBook = z.infer<typeof PriceBookSchema>
export type PriceBookStatus = z.infer<typeof Status>
