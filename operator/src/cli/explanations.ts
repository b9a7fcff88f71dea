/** Where a number comes from, line by line. Pure: objects in, lines out. */
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { isRegional, pricesAt } from '@farebox/crds/regions.ts'
import type { PricedModel, PriceList } from '@farebox/crds/prices.ts'
import type { PricingTier } from '@farebox/crds/pricing-tier.ts'
import type { End } from '@farebox/crds/ladder.ts'
import type { Contract } from '@farebox/crds/sidecar-config.ts'
import { formatPricePerMillion, formatUsd, parseUsd, percentOf } from '@farebox/crds/usd.ts'
import type { CompiledTier } from '../core/compile-tier.ts'
import { tiersOf } from '../core/compile-budget.ts'
import type { BookPrices } from '../core/price-books.ts'
import { upstreamsOf } from '../core/upstreams.ts'
import type { Standing } from '../laptop/sidecar-client.ts'
import { percentOfWhole } from './money.ts'
import { renderTable } from './table.ts'
import type { Column } from './table.ts'

type Place = (field: string) => string

/** From the price of a plan to what a conversation may cost, and what each step of the ladder comes to. `place` gives `file:line` of a field. */
export function explainTier(tier: PricingTier, compiled: CompiledTier, place: Place): readonly string[] {
  const { spec } = tier
  const { currency } = spec
  const sums = aligned(compiled.lines.map(({ text, amount }) => [amount, text] as const))
  const head = [
    `PricingTier ${tier.metadata.name} (${spec.displayName}), ${spec.pricing.model}, amounts in ${currency}`,
    place('spec.pricing'),
    signedOff(tier, place),
    '',
  ]
  if (compiled.status === 'refused')
    return [...head, ...sums, '', `refused: ${compiled.finding.field ?? 'spec'}: ${compiled.finding.message}`]
  const { derived, contract } = compiled
  const caps: (readonly [string, string])[] = [
    [derived.perConversation, `cap of a conversation${overridden(tier, 'perConversation', place)}`],
  ]
  if (derived.perUser !== undefined) {
    const { unit, timeZone } = spec.pricing.period ?? { unit: 'period', timeZone: 'UTC' }
    caps.push([derived.perUser, `cap of a user and ${unit.toLowerCase()} (${timeZone})${overridden(tier, 'perUser', place)}`])
  }
  if (derived.targetPerResolution !== undefined) caps.push([derived.targetPerResolution, 'target cost of a resolution'])
  if (derived.targetPerConversation !== derived.perConversation)
    caps.push([derived.targetPerConversation, 'expected cost of a conversation'])
  const cap = parseUsd(derived.perConversation)
  const userCap = derived.perUser === undefined ? null : parseUsd(derived.perUser)
  // As compile has it: what is absent in the manifest is filled in there.
  const ladder = ladderLines(contract)
  const ofUser = userCap === null ? [] : ladder.map(({ atPercent }) => formatUsd(percentOf(userCap, atPercent)))
  const width = Math.max(0, ...ofUser.map(({ length }) => length))
  const steps = ladder.map(({ atPercent, text }, at) => {
    const user = ofUser[at]
    return [formatUsd(percentOf(cap, atPercent)), user === undefined ? text : `${user.padEnd(width)}  ${text}`] as const
  })
  const rate =
    currency === 'USD'
      ? []
      : [`1 ${currency} = ${contract.usdRate} USD, by a PriceBook: the cap is ${contract.caps.perConversation} USD in the ledger`]
  return [
    ...head,
    ...sums,
    '',
    ...aligned(caps),
    ...userCapLines({ cap, userCap, expected: spec.unitEconomics.expectedConversationsPerUser ?? 1 }),
    ...rate,
    '',
    contract.ladder.length === 0
      ? 'no ladder: nothing is taken away below the cap'
      : `ladder, by what a conversation${userCap === null ? '' : ', or its user in the period,'} has used (${place('spec.ladder')})`,
    ...aligned(steps),
    ...(spec.pricing.model === 'PerResolution'
      ? ['the ladder holds while the cost of a resolution is over target; until then only the cap does']
      : []),
    ...sessionLines(tier, place),
    ...upgradeLines(tier, place),
    '',
    `contract ${derived.contract}; alerts at ${contract.alerts.map((percent) => `${percent} %`).join(', ') || 'none'}`,
    'the margin that status shows is counted at the price of today, whatever a conversation was sold at',
  ]
}

/** Where a user's budget does not hold as many conversations as the plan expects. */
function userCapLines({
  cap,
  userCap,
  expected,
}: {
  readonly cap: bigint
  readonly userCap: bigint | null
  readonly expected: number
}): readonly string[] {
  if (userCap === null) return []
  if (userCap < cap) return ['the cap of a user is reached first, unless a conversation goes on for several periods']
  if (userCap + BigInt(expected) > cap * BigInt(expected)) return [] // but for what rounding took
  return [`the cap of a user holds ${userCap / cap} at their cap, of ${expected} conversations that are expected`]
}

/** What each step takes away, and how it ends: by the last one, or by itself where none ends it. */
function ladderLines({
  ladder,
  models,
}: Pick<Contract, 'ladder' | 'models'>): readonly { readonly atPercent: number; readonly text: string }[] {
  const steps = ladder.map(({ atPercent, rung, end }) => {
    const isIdle = rung === 'DowngradeModel' && models.downgrades.length === 0
    const how = end !== undefined ? ` (${end}): ${ENDINGS[end]}` : isIdle ? ': nothing to do, as spec.models.downgrades is empty' : ''
    return { atPercent, text: `${atPercent} %: ${rung}${how}` }
  })
  if (ladder.some(({ rung }) => rung === 'EndConversation')) return steps
  return [...steps, { atPercent: 100, text: '100 %: no step ends it: calls are refused with 402' }]
}

const ENDINGS: Readonly<Record<End, string>> = {
  Close: 'calls are answered with closing words',
  Reset: 'a new session begins, or calls are answered with closing words where none may follow',
  Refuse: 'calls are refused with 402',
}

/** When a session follows another, and what is kept of them; none where neither is. */
function sessionLines({ spec: { sessions, ladder } }: PricingTier, place: Place): readonly string[] {
  const { maxTurns, idleAfter, maxResets, resetAt, memory } = sessions
  const atEnd = ladder.some(({ end }) => end === 'Reset')
  const ends = [
    ...(maxTurns === undefined ? [] : [`after ${maxTurns} user ${maxTurns === 1 ? 'turn' : 'turns'}`]),
    ...(idleAfter === undefined ? [] : [`after a pause of ${idleAfter}`]),
    ...(atEnd ? ['at the end of the ladder'] : []),
  ]
  return [
    ...(ends.length === 0 ? [] : [`a new session ${ends.join(', or ')}; at most ${maxResets} of them (${place('spec.sessions')})`]),
    ...(resetAt === 'TaskBoundary' && (maxTurns !== undefined || atEnd)
      ? [
          `${idleAfter === undefined ? 'it waits' : 'but for a pause it waits'} until the app says that a task begins${atEnd ? '; at the end of the ladder the conversation is closed until then' : ''}`,
        ]
      : []),
    ...(memory?.mode === 'Searchable' ? [`users may search what was said in the last ${memory.retention}`] : []),
  ]
}

/** From when on users are told of the next plan: in the owner's words, or not at all. */
function upgradeLines({ spec: { upgrade, notices } }: PricingTier, place: Place): readonly string[] {
  if (upgrade === undefined) return []
  const words = notices.texts.find(({ occasion }) => occasion === 'Upgrade')?.text ?? {}
  const isTold = notices.mode === 'Inline' && Object.values(words).some((text) => text.trim() !== '')
  const from = `from ${upgrade.whenUserExceedsPercent} % of the user budget on a user belongs on ${upgrade.tier} (${place('spec.upgrade')})`
  return [isTold ? `${from}, and is told so` : `${from}; users are not told: spec.notices has no words for Upgrade`]
}

/** Who agreed to the numbers that follow, and when. */
function signedOff({ spec }: PricingTier, place: Place): string {
  const field = 'spec.unitEconomics.signedOff'
  const { signedOff: agreed } = spec.unitEconomics
  return agreed === undefined
    ? `nobody has signed these numbers off: ${field} says who and when`
    : `signed off by ${agreed.by} on ${agreed.date} (${place(field)})`
}

/** What compile found of a field. */
export interface Told {
  readonly field: string
  readonly message: string
}

export interface BudgetContext {
  /** By name. */
  readonly tiers: ReadonlyMap<string, CompiledTier>
  readonly prices: Pick<BookPrices, 'list' | 'bookOf' | 'daysAfter'>
  readonly nowMs: number
  readonly place: Place
  /** Where it is in force but in part. */
  readonly warnings?: readonly Told[]
  /** Why it is not in force: then all that is told is what would be. Absent: it is. */
  readonly refused?: Told
}

/** Which tiers a budget binds, what they cap, and where the prices come from. */
export function explainBudget(budget: ConversationBudget, context: BudgetContext): readonly string[] {
  const { tiers, prices, nowMs, place, refused, warnings = [] } = context
  const { spec, metadata } = budget
  const bound = tiersOf(budget).map((name) => ({ name, tier: tiers.get(name) }))
  const limits = spec.limits.map(
    ({ amount, period }) => `at most ${amount} USD each ${period.unit.toLowerCase()} (${period.timeZone}), whoever talks`,
  )
  const lines = [
    `ConversationBudget ${metadata.namespace ?? 'default'}/${metadata.name}, ${spec.mode}`,
    place('spec'),
    '',
    ...renderTable(
      [
        { head: 'TIER', cell: ({ name }: (typeof bound)[number]) => (name === spec.tier.default ? `${name} (default)` : name) },
        {
          head: 'CONVERSATION',
          align: 'right',
          cell: ({ tier }) => capOf(tier, 'perConversation'),
        },
        {
          head: 'USER',
          align: 'right',
          cell: ({ tier }) => capOf(tier, 'perUser'),
        },
        {
          head: 'CONTRACT',
          cell: ({ tier }) => (tier?.status === 'accepted' ? tier.contract.hash : tier === undefined ? 'no such tier' : 'refused'),
        },
      ],
      bound,
    ),
    spec.tier.claim === undefined
      ? 'every conversation is on the default tier'
      : `a conversation may claim another by the header ${spec.tier.claim.header}${signedBy(spec.tier.claim)}`,
    ...limits,
    '',
  ]
  return [
    ...lines,
    ...priceLines(budget, { bound: bound.map(({ tier }) => tier), prices, nowMs }),
    ...(refused === undefined && warnings.length === 0 ? [] : ['']),
    ...warnings.map(({ field, message }) => `warning: ${field}: ${message}`),
    ...(refused === undefined ? [] : [`refused: ${refused.field}: ${refused.message}`]),
  ]
}

/** In the tier's own currency, as `explain tier` tells it. */
function capOf(tier: CompiledTier | undefined, field: 'perConversation' | 'perUser'): string {
  const amount = tier?.status === 'accepted' ? tier.derived[field] : undefined
  return tier?.status !== 'accepted' || amount === undefined ? '-' : `${amount} ${tier.contract.currency}`
}

function signedBy({ token }: NonNullable<ConversationBudget['spec']['tier']['claim']>): string {
  return token === undefined ? '' : `, which holds a token (${token.format}) signed by a key of Secret ${token.secretRef.name}`
}

/** Where a conversation stands, and why. Money in the tier's currency. */
export function explainConversation(standing: Standing): readonly string[] {
  const { currency, budget, spent, held, remaining, drivers } = standing
  const whole = parseUsd(spent)
  const parts = Object.entries(drivers)
    .map(([driver, amount]) => ({ driver, amount: parseUsd(amount) }))
    .filter(({ amount }) => amount > 0n)
    .toSorted((a, b) => (a.amount > b.amount ? -1 : 1))
  const because =
    standing.reason === 'threshold'
      ? ': its threshold was reached'
      : standing.reason === 'fit'
        ? ': the call did not fit into what was left without it'
        : standing.reason === null
          ? ''
          : `: ${standing.reason}`
  return [
    `conversation ${standing.conversation}, ${standing.state}, session ${standing.session}, ${standing.turns} turns, last ${standing.lastTurnAt}`,
    `tier ${standing.tier}, under contract ${standing.contract}${standing.user === null ? '' : `, of user ${standing.user}`}; amounts in ${currency}`,
    '',
    ...aligned([
      [budget, 'budget of this session, by the contract'],
      [`-${spent}`, `spent (${percentFloor(whole, parseUsd(budget))} %)`],
      [`-${held}`, 'held by calls under way'],
      [remaining, 'remaining'],
    ]),
    '',
    parts.length === 0 ? 'nothing spent yet' : standing.session > 1 ? 'what drove the cost, over all sessions' : 'what drove the cost',
    ...aligned(parts.map(({ driver, amount }) => [formatUsd(amount), `${driver} (${percentOfWhole(amount, sumOf(parts)) ?? 0} %)`])),
    '',
    standing.rung === 'None' ? `rung None at ${standing.percent} %` : `rung ${standing.rung} at ${standing.percent} %${because}`,
    ...(standing.percentOf === 'user'
      ? [`${standing.percent} % of the user's budget of this period is used, on which all conversations of the user draw`]
      : []),
    `alerts sent: ${standing.alerts.map((percent) => `${percent} %`).join(', ') || 'none'}; resolution ${standing.resolution}; advice ${standing.advice}`,
  ]
}

/** A provider, at the endpoints of it that have the same prices. */
interface Seller {
  readonly provider: string
  readonly isRegional: boolean
  readonly prices: PriceList
}

interface PriceRow {
  readonly seller: Seller
  readonly model: string
  readonly priced: PricedModel | null
  readonly source: string
  /** A call has this price if its input is more; null: whatever it is, up to the next row. */
  readonly inputOver: number | null
  /** The day from which it is the price; null: today. */
  readonly from: string | null
}

interface PriceContext extends Pick<BudgetContext, 'prices' | 'nowMs'> {
  /** The tiers of the budget; undefined for one that is not there. */
  readonly bound: readonly (CompiledTier | undefined)[]
}

/** Of the models that the tiers name. */
function priceLines(budget: ConversationBudget, context: PriceContext): readonly string[] {
  const { bound, prices, nowMs } = context
  const { onUnknownModel } = budget.spec
  const { list } = prices
  const contracts = bound.flatMap((tier) => (tier?.status === 'accepted' ? [tier.contract] : []))
  const unlisted =
    contracts.length === bound.length
      ? 'the tiers name no models: prices are looked up call by call'
      : 'which models the tiers name is known once all of them are accepted'
  const sellers = sellersOf(budget, list)
  const rows = priceRows(namedModels(contracts), { sellers, prices, nowMs })
  const providers = [...new Set(sellers.map(({ provider }) => provider))]
  return [
    `prices, USD per million tokens; a model without one: ${onUnknownModel}`,
    ...(rows.length === 0
      ? [unlisted]
      : renderTable<PriceRow>(
          PRICE_COLUMNS,
          rows
            .flatMap((row) => [row.priced === null ? unpricedRow(row, onUnknownModel, nowMs) : row, ...laterRows(row, prices, nowMs)])
            .flatMap((row) => [row, ...(row.priced?.steps ?? []).map((inputOver): PriceRow => ({ ...row, inputOver }))]),
        )),
    ...providers
      .filter((provider) => list.ceiling(provider, '', nowMs) === null)
      .map((provider) => `${provider}: no prices, its calls ${onUnknownModel === 'Free' ? 'cost nothing' : 'are refused'}`),
    `catalogue ${list.catalogue.version} of ${list.catalogue.date}`,
  ]
}

function sellersOf(budget: ConversationBudget, prices: PriceList): readonly Seller[] {
  const sellers = upstreamsOf(budget).map(({ provider, baseURL }): Seller => {
    const upstream = { provider, baseUrl: baseURL }
    return { provider, isRegional: isRegional(upstream), prices: pricesAt(prices, upstream) }
  })
  return sellers.filter(
    (seller, index) => sellers.findIndex((each) => each.provider === seller.provider && each.isRegional === seller.isRegional) === index,
  )
}

/** By name, those that can be looked up: a pattern is no model. */
function namedModels(contracts: readonly Pick<Contract, 'models'>[]): readonly string[] {
  const models = contracts.flatMap(({ models: { allow, downgrades, summarizer } }) => [
    ...allow.filter((model) => !model.endsWith('*')),
    ...downgrades.map(({ to }) => to),
    ...(summarizer === undefined ? [] : [summarizer]),
  ])
  return [...new Set(models)].toSorted()
}

/** Each model at those who price it. A model is of one provider, as a rule: where others have none of that name, that says nothing. */
function priceRows(
  models: readonly string[],
  { sellers, prices, nowMs }: Pick<PriceContext, 'prices' | 'nowMs'> & { readonly sellers: readonly Seller[] },
): readonly PriceRow[] {
  const rows = sellers.flatMap((seller) =>
    models.map((model): PriceRow => {
      const priced = seller.prices.find(seller.provider, model, nowMs)
      return { seller, model, priced, source: sourceOf(priced, prices.bookOf(seller.provider, model, nowMs)), inputOver: null, from: null }
    }),
  )
  const known = new Set(rows.flatMap(({ model, priced }) => (priced === null ? [] : [model])))
  return rows.filter(({ seller, model, priced }) => priced !== null || (seller === sellers[0] && !known.has(model)))
}

/** What it costs from a later day on, for each day that changes it. */
function laterRows({ seller, model, priced: today }: PriceRow, prices: PriceContext['prices'], nowMs: number): readonly PriceRow[] {
  let before = ratesOf(today)
  return prices.daysAfter(seller.provider, model, nowMs).flatMap((from): readonly PriceRow[] => {
    const atMs = Date.parse(from)
    const priced = seller.prices.find(seller.provider, model, atMs)
    const rates = ratesOf(priced)
    if (priced === null || rates === before) return []
    before = rates
    return [{ seller, model, priced, source: sourceOf(priced, prices.bookOf(seller.provider, model, atMs)), inputOver: null, from }]
  })
}

/** All that the table shows of a price, to compare it. */
function ratesOf(priced: PricedModel | null): string {
  if (priced === null) return ''
  const rates = [null, ...priced.steps].map((inputOver) => RATED_KINDS.map((kind) => rateOf({ priced, inputOver }, kind)))
  return JSON.stringify([rates, priced.steps])
}

const RATED_KINDS = ['uncachedInput', 'cacheReadInput', 'output'] as const

const PRICE_COLUMNS: readonly Column<PriceRow>[] = [
  { head: 'MODEL', cell: ({ seller, model }) => `${seller.provider}/${model}` },
  { head: 'INPUT', align: 'right', cell: (row) => rateOf(row, 'uncachedInput') },
  { head: 'CACHED', align: 'right', cell: (row) => rateOf(row, 'cacheReadInput') },
  { head: 'OUTPUT', align: 'right', cell: (row) => rateOf(row, 'output') },
  { head: 'FROM', cell: sourceCell },
]

/** What a call of a model without a price is charged. */
function unpricedRow(row: PriceRow, action: ConversationBudget['spec']['onUnknownModel'], nowMs: number): PriceRow {
  const { provider, prices } = row.seller
  if (action === 'Free') return { ...row, priced: prices.free(provider, row.model), source: 'free (no price)' }
  const ceiling = action === 'Ceiling' ? prices.ceiling(provider, row.model, nowMs) : null
  return { ...row, priced: ceiling, source: ceiling === null ? 'refused (no price)' : 'ceiling (no price)' }
}

/** `book`: the one whose entry counts, where one does. */
function sourceOf(priced: PricedModel | null, book: string | null): string {
  if (priced === null) return 'no price'
  return priced.origin === 'book' && book !== null ? `PriceBook ${book}` : priced.origin
}

function sourceCell({ seller, source, inputOver, from }: PriceRow): string {
  return [
    source,
    ...(seller.isRegional ? ['regional'] : []),
    ...(from === null ? [] : [`from ${from}`]),
    ...(inputOver === null ? [] : [`calls over ${inputOver.toLocaleString('en-US')} tokens of input`]),
  ].join(', ')
}

function rateOf({ priced, inputOver }: Pick<PriceRow, 'priced' | 'inputOver'>, kind: (typeof RATED_KINDS)[number]): string {
  return priced === null ? '-' : formatPricePerMillion(priced.pricesFor((inputOver ?? 0) + 1, null)[kind])
}

function overridden(tier: PricingTier, field: 'perConversation' | 'perUser', place: Place): string {
  return tier.spec.budget[field] === undefined ? '' : `, as spec.budget.${field} says (${place(`spec.budget.${field}`)})`
}

/** Amounts with their points below each other. */
function aligned(rows: readonly (readonly [amount: string, text: string])[]): readonly string[] {
  const split = rows.map(([amount, text]) => {
    const [whole = '', fraction = ''] = amount.split('.')
    return { whole, fraction, text }
  })
  const wholes = Math.max(0, ...split.map(({ whole }) => whole.length))
  const fractions = Math.max(0, ...split.map(({ fraction }) => fraction.length))
  return split.map(({ whole, fraction, text }) => `  ${whole.padStart(wholes)}.${fraction.padEnd(fractions)}  ${text}`)
}

/** As the ladder counts: a percent is used when it is used up. */
function percentFloor(part: bigint, whole: bigint): bigint {
  return whole === 0n ? 0n : (part * 100n) / whole
}

function sumOf(parts: readonly { readonly amount: bigint }[]): bigint {
  return parts.reduce((total, { amount }) => total + amount, 0n)
}
