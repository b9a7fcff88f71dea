/** Manifests that an API server must accept, or refuse as `farebox lint` does: the same fields, and of our rules the same words. */

const API_VERSION = 'farebox.dev/v1alpha1'

/** One fault. `field`: as lint names it. */
export interface Fault {
  readonly field: string
  /** What lint says of it; and the API server too, where `server` is absent: then it is a rule of ours. */
  readonly says: string
  /** Of the shape of a value the API server speaks in words of its own: part of them. */
  readonly server?: string
  /** Where it names the field otherwise. */
  readonly serverField?: string
}

export interface Case {
  readonly name: string
  readonly object: Manifest
  /** None: it is accepted. */
  readonly faults: readonly Fault[]
  /** The API server takes it all the same, and why lint is right not to. */
  readonly lintAlone?: string
}

export interface Manifest {
  readonly apiVersion: string
  readonly kind: 'PricingTier' | 'ConversationBudget' | 'PriceBook'
  readonly metadata: Readonly<Record<string, unknown>>
  readonly [field: string]: unknown
}

export const NAMESPACE = 'shop'

/** Each sells conversations at 2.00, unless its spec says otherwise. */
export function tier(spec: object = {}, metadata: object = {}): Manifest {
  return {
    apiVersion: API_VERSION,
    kind: 'PricingTier',
    metadata: { name: 'pro', ...metadata },
    spec: {
      displayName: 'Pro',
      pricing: { model: 'PerConversation', price: '2.00' },
      unitEconomics: { targetGrossMarginPercent: 70 },
      ...spec,
    },
  }
}

export function budget(spec: object = {}, metadata: object = {}): Manifest {
  return {
    apiVersion: API_VERSION,
    kind: 'ConversationBudget',
    metadata: { name: 'desk', namespace: NAMESPACE, ...metadata },
    spec: { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' }, ...spec },
  }
}

export function book(spec: object = {}): Manifest {
  return { apiVersion: API_VERSION, kind: 'PriceBook', metadata: { name: 'house' }, spec }
}

const SEAT = {
  pricing: { model: 'FlatPerUser', price: '19.00', period: { unit: 'Month', timeZone: 'Europe/Berlin', anchorDay: 31 } },
  unitEconomics: { targetGrossMarginPercent: 70, otherCost: '2.70', expectedConversationsPerUser: 6 },
}
const OPENAI = { name: 'openai', baseURL: 'https://api.openai.com/v1' }
const KEY = { secretRef: { name: 'openai', key: 'api-key' } }
const NO_MEMORY = { mode: 'None' }
const SILENT = 'must say whether users may search what earlier sessions said: { mode: Searchable } or { mode: None }'
const SEAT_ONLY = 'needs a budget of the user behind it, which only a FlatPerUser tier has'
const DECIMAL = 'must be a decimal in quotes, such as "0.50"'
const SUBDOMAIN = 'must be a Kubernetes name: lower-case letters, digits, "-" and "."'

function accepted(name: string, object: Manifest): Case {
  return { name, object, faults: [] }
}

/** `says`: alone, of a rule of ours; with a second text, of the shape. */
function refused(name: string, object: Manifest, field: string, says: string, server?: string, serverField?: string): Case {
  return {
    name,
    object,
    faults: [{ field, says, ...(server === undefined ? {} : { server }), ...(serverField === undefined ? {} : { serverField }) }],
  }
}

const TIERS: readonly Case[] = [
  accepted('a tier of few words', tier()),
  accepted('a price per user with its period and its expected use', tier(SEAT)),
  accepted(
    'a price per resolution',
    tier({
      pricing: { model: 'PerResolution', price: '0.99' },
      unitEconomics: { targetGrossMarginPercent: 60, expectedResolutionPercent: 55 },
    }),
  ),
  accepted(
    'a tier that says all it may',
    tier({
      ...SEAT,
      currency: 'EUR',
      unitEconomics: { ...SEAT.unitEconomics, signedOff: { by: 'Finance', date: '2028-02-29' }, heavyUserTimesMedian: 1000 },
      budget: { perConversation: '0.000000001', perUser: '999999999.999999999', allowBelowMargin: 'Acknowledged' },
      context: { windowTokens: 100_000_000, overflow: 'Summarize', keepRecentTurns: 1, summarizeAfterPercent: 0 },
      models: {
        allow: ['gpt-*', '*'],
        downgrades: [{ from: 'gpt-4o*', to: 'gpt-4o-mini', upstream: 'openai' }],
        summarizer: 'gpt-4o-mini',
        maxOutputTokens: 2,
        usefulOutputTokens: 2,
      },
      alerts: [1, 100],
      ladder: [
        { atPercent: 0, rung: 'DropRetrieval' },
        { atPercent: 100, rung: 'EndConversation', end: 'Reset' },
      ],
      sessions: {
        resetAt: 'Immediately',
        recap: 'None',
        maxResets: 0,
        maxTurns: 10_000,
        idleAfter: '1m',
        memory: { mode: 'Searchable', retention: '8760h' },
      },
      notices: {
        mode: 'HeadersOnly',
        texts: [
          { occasion: 'End', text: { en: '', 'pt-BR': 'Fim.' } },
          { occasion: 'Reset', text: {} },
        ],
        defaultLocale: 'zh-Hans-CN',
      },
      upgrade: { tier: 'team.v2', whenUserExceedsPercent: 100 },
    }),
  ),
  accepted('a memory without resets', tier({ sessions: { memory: { mode: 'Searchable', retention: '1m' } } })),
  accepted('letters beyond the 16 bit ones count once', tier({ displayName: '🚌'.repeat(64) })),
  accepted('an empty ladder: nothing is taken away', tier({ ladder: [] })),
  refused(
    'a price that YAML reads as a number',
    tier({ pricing: { model: 'PerConversation', price: 2 } }),
    'spec.pricing.price',
    `${DECIMAL}; found the number 2`,
    'must be of type string: "integer"',
  ),
  refused(
    'a price in exponents',
    tier({ pricing: { model: 'PerConversation', price: '2e3' } }),
    'spec.pricing.price',
    DECIMAL,
    'should match',
  ),
  refused(
    'a price below zero',
    tier({ pricing: { model: 'PerConversation', price: '-2.00' } }),
    'spec.pricing.price',
    DECIMAL,
    'should match',
  ),
  refused(
    'a price that ends in a new line',
    tier({ pricing: { model: 'PerConversation', price: '2.00\n' } }),
    'spec.pricing.price',
    DECIMAL,
    'should match',
  ),
  refused(
    'a price that is left out',
    tier({ pricing: { model: 'PerConversation' } }),
    'spec.pricing.price',
    'is required',
    'Required value',
  ),
  refused('no spec', { apiVersion: API_VERSION, kind: 'PricingTier', metadata: { name: 'pro' } }, 'spec', 'is required', 'Required value'),
  refused(
    'a way to charge that is unknown',
    tier({ pricing: { model: 'PerUser', price: '2.00' } }),
    'spec.pricing.model',
    'must be one of FlatPerUser, PerConversation, PerResolution',
    'supported values: "FlatPerUser", "PerConversation", "PerResolution"',
  ),
  refused(
    'a margin above 100',
    tier({ unitEconomics: { targetGrossMarginPercent: 101 } }),
    'spec.unitEconomics.targetGrossMarginPercent',
    'must be at most 100',
    'less than or equal to 100',
  ),
  refused(
    'a margin in quotes',
    tier({ unitEconomics: { targetGrossMarginPercent: '70' } }),
    'spec.unitEconomics.targetGrossMarginPercent',
    'must be a whole number, without quotes',
    'must be of type integer: "string"',
  ),
  refused(
    'a margin that is no whole number',
    tier({ unitEconomics: { targetGrossMarginPercent: 70.5 } }),
    'spec.unitEconomics.targetGrossMarginPercent',
    'must be a whole number; found the number 70.5',
    'must be of type int64: "float64"',
  ),
  refused(
    'a day that no calendar has',
    tier({ unitEconomics: { targetGrossMarginPercent: 70, signedOff: { by: 'Finance', date: '2026-02-30' } } }),
    'spec.unitEconomics.signedOff.date',
    'must be a date such as "2026-11-24"',
    'must be of type date',
  ),
  refused(
    'a list where a day is meant',
    tier({ unitEconomics: { targetGrossMarginPercent: 70, signedOff: { by: 'Finance', date: ['2026-02-28'] } } }),
    'spec.unitEconomics.signedOff.date',
    'must be a date such as "2026-11-24"; found a list',
    'expected string, got []interface',
  ),
  refused('a name without letters', tier({ displayName: '' }), 'spec.displayName', 'must not be empty', 'should be at least 1 chars long'),
  refused(
    'a name that is too long',
    tier({ displayName: '🚌'.repeat(65) }),
    'spec.displayName',
    'must be at most 64 characters long',
    'Too long',
  ),
  refused('a currency in words', tier({ currency: 'Euro' }), 'spec.currency', 'must be a currency code such as "USD"', 'Too long'),
  refused(
    'a price per user without the use that is expected',
    tier({ ...SEAT, unitEconomics: { targetGrossMarginPercent: 70 } }),
    'spec.unitEconomics.expectedConversationsPerUser',
    'is required for FlatPerUser: the number of conversations that a user is expected to have in a period',
  ),
  refused(
    'a price per user without its period',
    tier({ ...SEAT, pricing: { model: 'FlatPerUser', price: '19.00' } }),
    'spec.pricing.period',
    'is required for FlatPerUser: the period that its price is for, such as { unit: Month }',
  ),
  refused(
    'a price per resolution without the part that is expected to be resolved',
    tier({ pricing: { model: 'PerResolution', price: '0.99' } }),
    'spec.unitEconomics.expectedResolutionPercent',
    'is required for PerResolution: the percent of conversations that are expected to be resolved',
  ),
  refused(
    'a period of a price per conversation',
    tier({ pricing: { model: 'PerConversation', price: '2.00', period: { unit: 'Day' } } }),
    'spec.pricing.period',
    'is for FlatPerUser only: other prices have none',
  ),
  refused(
    'a budget of users where none is counted',
    tier({ budget: { perUser: '1.00' } }),
    'spec.budget.perUser',
    'is for FlatPerUser only: other tiers have no period to count a user in',
  ),
  refused(
    'an upgrade where no user is counted',
    tier({ upgrade: { tier: 'team', whenUserExceedsPercent: 80 } }),
    'spec.upgrade',
    'is for FlatPerUser only: other tiers have no user budget to exceed',
  ),
  refused(
    'sessions that begin anew for nobody',
    tier({ ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }] }),
    'spec.ladder',
    'end: Reset needs a budget of the user behind it, which only a FlatPerUser tier has',
  ),
  refused(
    'a ladder out of order',
    tier({
      ladder: [
        { atPercent: 70, rung: 'Summarize' },
        { atPercent: 80, rung: 'DropRetrieval' },
      ],
    }),
    'spec.ladder',
    'rungs must come in this order, each at most once: DropRetrieval, Summarize, DowngradeModel, RefuseTools, EndConversation',
  ),
  refused(
    'a rung twice',
    tier({
      ladder: [
        { atPercent: 70, rung: 'Summarize' },
        { atPercent: 80, rung: 'Summarize' },
      ],
    }),
    'spec.ladder',
    'rungs must come in this order, each at most once: DropRetrieval, Summarize, DowngradeModel, RefuseTools, EndConversation',
  ),
  refused(
    'a ladder that falls',
    tier({
      ladder: [
        { atPercent: 80, rung: 'DropRetrieval' },
        { atPercent: 70, rung: 'Summarize' },
      ],
    }),
    'spec.ladder',
    'atPercent must not fall from one step to the next',
  ),
  refused(
    'an end of a rung that ends nothing',
    tier({ ladder: [{ atPercent: 80, rung: 'DropRetrieval', end: 'Close' }] }),
    'spec.ladder[0].end',
    'is for EndConversation only',
  ),
  refused(
    'more steps than there are rungs',
    tier({ ladder: Array.from({ length: 6 }, () => ({ atPercent: 1, rung: 'Summarize' })) }),
    'spec.ladder',
    'must be at most 5 items long',
    'Too many',
  ),
  refused('an alert twice', tier({ alerts: [70, 90, 70] }), 'spec.alerts[2]', 'must be there only once: 70', 'Duplicate value'),
  refused(
    'a downgrade to itself',
    tier({ models: { downgrades: [{ from: 'gpt-4o', to: 'gpt-4o' }] } }),
    'spec.models.downgrades[0].to',
    'must be another model than from',
  ),
  refused(
    'a downgrade to an upstream of no possible name',
    tier({ models: { downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini', upstream: 'House' }] } }),
    'spec.models.downgrades[0].upstream',
    'must be lower-case letters, digits and "-", beginning with a letter',
    'should match',
  ),
  refused(
    'a reset that is silent about memory',
    tier({ ...SEAT, ladder: [{ atPercent: 100, rung: 'EndConversation', end: 'Reset' }] }),
    'spec.sessions.memory',
    SILENT,
  ),
  refused('sessions of so many turns, silent about memory', tier({ ...SEAT, sessions: { maxTurns: 1 } }), 'spec.sessions.memory', SILENT),
  refused('sessions that idle, silent about memory', tier({ ...SEAT, sessions: { idleAfter: '1m' } }), 'spec.sessions.memory', SILENT),
  refused(
    'sessions of so many turns at a price per conversation',
    tier({ sessions: { maxTurns: 40 } }),
    'spec.sessions.maxTurns',
    SEAT_ONLY,
  ),
  refused('sessions that idle at a price per conversation', tier({ sessions: { idleAfter: '1h' } }), 'spec.sessions.idleAfter', SEAT_ONLY),
  refused(
    'a pause of seconds',
    tier({ ...SEAT, sessions: { idleAfter: '59s', memory: NO_MEMORY } }),
    'spec.sessions.idleAfter',
    'must be at least 1m',
  ),
  refused(
    'a pause that is none',
    tier({ ...SEAT, sessions: { idleAfter: 'soon', memory: NO_MEMORY } }),
    'spec.sessions.idleAfter',
    'must be a duration such as "20m" or "24h"',
    'should match',
  ),
  refused(
    'a memory that says no mode',
    tier({ sessions: { memory: { retention: '1h' } } }),
    'spec.sessions.memory.mode',
    'is required',
    'Required value',
  ),
  refused(
    'a memory of more than a year',
    tier({ sessions: { memory: { mode: 'None', retention: '8760h1s' } } }),
    'spec.sessions.memory.retention',
    'must be at least 1m and at most 8760h',
  ),
  refused(
    'a heavy user who is like others',
    tier({ unitEconomics: { targetGrossMarginPercent: 70, heavyUserTimesMedian: 1 } }),
    'spec.unitEconomics.heavyUserTimesMedian',
    'must be at least 2',
    'should be greater than or equal to 2',
  ),
  refused(
    'a star in the middle of a model',
    tier({ models: { allow: ['gpt-*-mini'] } }),
    'spec.models.allow[0]',
    'must be a model name, where only the end may be "*"',
    'should match',
  ),
  refused(
    'useful answers that are longer than the longest',
    tier({ models: { maxOutputTokens: 10, usefulOutputTokens: 11 } }),
    'spec.models.usefulOutputTokens',
    'must not be more than maxOutputTokens: no answer could be of use',
  ),
  refused(
    'a notice twice',
    tier({
      notices: {
        texts: [
          { occasion: 'End', text: {} },
          { occasion: 'End', text: {} },
        ],
      },
    }),
    'spec.notices.texts[1].occasion',
    'must be there only once: End',
    'Duplicate value',
    'spec.notices.texts[1]',
  ),
  refused(
    'a notice in no language',
    tier({ notices: { texts: [{ occasion: 'End', text: { english_: 'End.' } }] } }),
    'spec.notices.texts[0].text',
    'keys must be locales, such as en or pt-BR',
  ),
  refused(
    'a label of two words',
    tier({}, { labels: { owner: 'Jane Doe' } }),
    'metadata.labels.owner',
    'must be a label value: letters, digits, "-", "_" and "."',
    'a valid label must be',
    'metadata.labels',
  ),
  refused(
    'a label of many letters',
    tier({}, { labels: { owner: 'a'.repeat(64) } }),
    'metadata.labels.owner',
    'must be a label value: letters, digits, "-", "_" and "."',
    'must be no more than 63',
    'metadata.labels',
  ),
  refused(
    'an annotation whose name has two words',
    tier({}, { annotations: { 'my note': 'x' } }),
    'metadata.annotations.my note',
    'its name must be a label name, such as app or example.com/team',
    'name part must consist of',
    'metadata.annotations',
  ),
  refused(
    'a field that is misspelt',
    tier({ unitEconomic: {} }),
    'spec.unitEconomic',
    'is not a field here (did you mean unitEconomics?)',
    'unknown field',
  ),
  refused(
    'a field of another place',
    tier({ ladder: [{ atPercent: 80, rung: 'DropRetrieval', percent: 1 }] }),
    'spec.ladder[0].percent',
    'is not a field here (did you mean atPercent?)',
    'unknown field',
  ),
  refused(
    'labels that are misspelt',
    tier({}, { lables: { team: 'a' } }),
    'metadata.lables',
    'is not a field here (did you mean labels?)',
    'unknown field',
  ),
]

const BUDGETS: readonly Case[] = [
  accepted('a selector and a tier', budget()),
  accepted(
    'a budget that says all it may',
    budget({
      selector: {
        matchLabels: { 'example.com/team': 'a', app: '' },
        matchExpressions: [
          { key: 'app', operator: 'In', values: ['a', 'b'] },
          { key: 'canary', operator: 'DoesNotExist' },
        ],
      },
      tier: { default: 'pro', allowed: ['pro', 'team'], claim: { token: { format: 'JWT', secretRef: { name: 'claim-keys' } } } },
      mode: 'Observe',
      identity: { carriers: ['Header'], headers: ['X-Chat'], userCarriers: [], fallback: 'Require', scope: 'Budget' },
      upstreams: [
        {
          ...OPENAI,
          credential: KEY,
          headers: [
            { name: 'x-portkey-provider', value: '@openai-prod' },
            { name: 'x-portkey-api-key', ...KEY },
            { name: 'x-api-key', value: '!' },
            ...Array.from({ length: 5 }, (_, index) => ({ name: `${'h'.repeat(63)}${index}`, value: 'v v'.repeat(341) })),
          ],
        },
        { name: 'house', provider: 'vllm', baseURL: 'http://vllm.models:8000/v1/', injectUsage: 'Never', outputLimitField: 'max_tokens' },
        {
          name: 'azure-eu',
          provider: 'azure',
          baseURL: 'https://eu.openai.azure.com',
          deployments: Array.from({ length: 64 }, (_, index) => ({ name: `${index}_chat.v1-x`, model: 'gpt-4o' })),
        },
      ],
      limits: [
        { amount: '50.00', period: { unit: 'Day' } },
        { amount: '200', period: { unit: 'Week', anchorDay: 7, timeZone: 'Europe/Berlin' } },
      ],
      existingConversations: 'AdoptNew',
      contractMaxAge: '1h30m10s',
      onUnknownModel: 'Free',
      onDisconnect: 'Drain',
      ungoverned: 'Pass',
      onStoreFailure: { action: 'Allowance', percent: 1 },
      onStale: { after: '99999h', action: 'Deny' },
      store: { kind: 'Shared', redis: { secretRef: { name: 'our-valkey', key: 'URL_1.txt' } } },
      injection: { mode: 'Required', rollout: 'OnDelete', excludeContainers: ['log-shipper', 'a'] },
      retrieval: { toolNames: ['search_*'], tags: ['context'] },
      taskBoundary: { toolNames: ['end_task', 'done_*'] },
      resolution: { toolNames: ['close'], quietPeriod: '60s', reopenWindow: '0s' },
      hostedTools: { maxCalls: 100, maxResultTokens: 100_000_000 },
    }),
  ),
  accepted('sixteen providers', budget({ upstreams: Array.from({ length: 16 }, (_, index) => ({ ...OPENAI, name: `u${index}` })) })),
  accepted('books in each pod', budget({ store: { kind: 'Embedded' } })),
  accepted('a claim by the plain name of a tier', budget({ tier: { default: 'pro', allowed: ['team'], claim: {} } })),
  accepted('stale after a minute', budget({ onStale: { after: '60s' } })),
  refused('no selector', { ...budget(), spec: { tier: { default: 'pro' } } }, 'spec.selector', 'is required', 'Required value'),
  refused('a selector of every pod', budget({ selector: {} }), 'spec.selector', 'must name at least one label'),
  refused(
    'a label that is none',
    budget({ selector: { matchLabels: { '-app': 'desk' } } }),
    'spec.selector.matchLabels',
    'keys must be label names, such as app or example.com/team',
  ),
  refused(
    'a value that no label has',
    budget({ selector: { matchLabels: { app: 'a b' } } }),
    'spec.selector.matchLabels.app',
    'must be a label value: letters, digits, "-", "_" and "."',
    'should match',
  ),
  refused(
    'In without values',
    budget({ selector: { matchExpressions: [{ key: 'app', operator: 'In' }] } }),
    'spec.selector.matchExpressions[0].values',
    'In and NotIn need values, Exists and DoesNotExist take none',
  ),
  refused(
    'Exists with values',
    budget({ selector: { matchExpressions: [{ key: 'app', operator: 'Exists', values: ['a'] }] } }),
    'spec.selector.matchExpressions[0].values',
    'In and NotIn need values, Exists and DoesNotExist take none',
  ),
  refused('a tier by display name', budget({ tier: { default: 'Pro plan' } }), 'spec.tier.default', SUBDOMAIN, 'should match'),
  refused(
    'tiers to choose from, and nothing that chooses',
    budget({ tier: { default: 'pro', allowed: ['team'] } }),
    'spec.tier.claim',
    'is required beside allowed: the header that chooses among the tiers, such as { header: x-farebox-tier }',
  ),
  refused(
    'an allowed tier twice',
    budget({ tier: { default: 'pro', allowed: ['a', 'a'], claim: {} } }),
    'spec.tier.allowed[1]',
    'must be there only once: a',
    'Duplicate value',
  ),
  refused(
    'a claim in no header',
    budget({ tier: { default: 'pro', claim: { header: 'x plan' } } }),
    'spec.tier.claim.header',
    'must be a header name: letters, digits and "-"',
    'should match',
  ),
  refused(
    'a token of a kind that is unknown',
    budget({ tier: { default: 'pro', claim: { token: { format: 'SAML', secretRef: { name: 'keys' } } } } }),
    'spec.tier.claim.token.format',
    'must be one of HMAC, JWT',
    'supported values: "HMAC", "JWT"',
  ),
  refused(
    'a token that nobody signed',
    budget({ tier: { default: 'pro', claim: { token: { format: 'JWT' } } } }),
    'spec.tier.claim.token.secretRef',
    'is required',
    'Required value',
  ),
  refused(
    'one key of many that sign',
    budget({ tier: { default: 'pro', claim: { token: { format: 'HMAC', secretRef: { name: 'keys', key: 'a' } } } } }),
    'spec.tier.claim.token.secretRef.key',
    'is not a field here',
    'unknown field',
  ),
  refused(
    'deployments of a provider that has none',
    budget({ upstreams: [{ ...OPENAI, deployments: [{ name: 'chat', model: 'gpt-4o' }] }] }),
    'spec.upstreams[0].deployments',
    'is for the provider azure only: others are asked for models by name',
  ),
  refused(
    'an upstream at the path of the app API',
    budget({ upstreams: [{ ...OPENAI, name: 'farebox' }] }),
    'spec.upstreams[0].name',
    'must not be farebox: that path is the app API',
  ),
  refused(
    'a deployment that leaves its path',
    budget({ upstreams: [{ ...OPENAI, provider: 'azure', deployments: [{ name: '../chat', model: 'gpt-4o' }] }] }),
    'spec.upstreams[0].deployments[0].name',
    'must be 1 to 64 letters, digits, ".", "_" and "-"',
    'should match',
  ),
  ...[
    'authorization',
    'host',
    'connection',
    'content-type',
    'content-encoding',
    'proxy-authorization',
    'accept-encoding',
    'baggage',
    'x-farebox-user',
    'x-http-method-override',
    'idempotency-key',
  ].map((name) =>
    refused(
      `an upstream's header that no owner may set: ${name}`,
      budget({ upstreams: [{ ...OPENAI, headers: [{ name, value: 'v' }] }] }),
      'spec.upstreams[0].headers[0].name',
      'must be a header that an owner may set: none of the connection, the body or the kind of call, and none of x-farebox-*; the key in authorization is credential',
    ),
  ),
  refused(
    "an upstream's header in capitals",
    budget({ upstreams: [{ ...OPENAI, headers: [{ name: 'X-Portkey-Provider', value: 'v' }] }] }),
    'spec.upstreams[0].headers[0].name',
    'must be a header name in lower case: letters, digits and "-"',
    'should match',
  ),
  refused(
    "an upstream's header without a value",
    budget({ upstreams: [{ ...OPENAI, headers: [{ name: 'x-a' }] }] }),
    'spec.upstreams[0].headers[0]',
    'must have either value or secretRef',
  ),
  refused(
    "an upstream's header with two values",
    budget({ upstreams: [{ ...OPENAI, headers: [{ name: 'x-a', value: 'v', ...KEY }] }] }),
    'spec.upstreams[0].headers[0]',
    'must have either value or secretRef',
  ),
  refused(
    "an upstream's header of two lines",
    budget({ upstreams: [{ ...OPENAI, headers: [{ name: 'x-a', value: 'v\r\nhost: b' }] }] }),
    'spec.upstreams[0].headers[0].value',
    'must be printable ASCII without blanks around it, in quotes where it is a number',
    'should match',
  ),
  refused(
    "an upstream's header twice",
    budget({
      upstreams: [
        {
          ...OPENAI,
          headers: [
            { name: 'x-a', value: 'v' },
            { name: 'x-a', value: 'w' },
          ],
        },
      ],
    }),
    'spec.upstreams[0].headers[1].name',
    'must be there only once: x-a',
    'Duplicate value',
    'spec.upstreams[0].headers[1]',
  ),
  refused(
    'nine headers of an upstream',
    budget({ upstreams: [{ ...OPENAI, headers: Array.from({ length: 9 }, (_, index) => ({ name: `x-${index}`, value: 'v' })) }] }),
    'spec.upstreams[0].headers',
    'must be at most 8 items long',
    'Too many',
  ),
  ...[
    ['anthropic', 'x-api-key'],
    ['azure', 'api-key'],
    ['google', 'x-goog-api-key'],
  ].map(([provider = '', name = '']) =>
    refused(
      `the header of the key of ${provider} beside it`,
      budget({ upstreams: [{ ...OPENAI, provider, headers: [{ name, value: 'v' }] }] }),
      'spec.upstreams[0].headers',
      "must not have the header of the provider's own key: that is credential",
    ),
  ),
  refused('a quiet period of nothing', budget({ resolution: { quietPeriod: '0s' } }), 'spec.resolution.quietPeriod', 'must be at least 1m'),
  refused(
    'no call of a tool that the provider runs',
    budget({ hostedTools: { maxCalls: 0 } }),
    'spec.hostedTools.maxCalls',
    'must be at least 1',
    'should be greater than or equal to 1',
  ),
  refused(
    'a mode that is unknown',
    budget({ mode: 'Audit' }),
    'spec.mode',
    'must be one of Enforce, Observe',
    'supported values: "Enforce", "Observe"',
  ),
  refused(
    'an upstream twice',
    budget({ upstreams: [OPENAI, OPENAI] }),
    'spec.upstreams[1].name',
    'must be there only once: openai',
    'Duplicate value',
    'spec.upstreams[1]',
  ),
  refused(
    'an upstream without its address',
    budget({ upstreams: [{ name: 'openai' }] }),
    'spec.upstreams[0].baseURL',
    'is required',
    'Required value',
  ),
  refused(
    'an address with a query',
    budget({ upstreams: [{ ...OPENAI, baseURL: 'https://a.example.com/v1?key=1' }] }),
    'spec.upstreams[0].baseURL',
    'must be an http or https URL without query, such as "https://api.openai.com/v1"',
    'should match',
  ),
  refused(
    'an address with a password',
    budget({ upstreams: [{ ...OPENAI, baseURL: 'https://me:pw@a.example.com/v1' }] }),
    'spec.upstreams[0].baseURL',
    'must be an http or https URL without query, such as "https://api.openai.com/v1"',
    'should match',
  ),
  refused(
    'a provider that is no path segment',
    budget({ upstreams: [{ ...OPENAI, name: 'Open/AI' }] }),
    'spec.upstreams[0].name',
    'must be lower-case letters, digits and "-", beginning with a letter',
    'should match',
  ),
  refused(
    'seventeen providers',
    budget({ upstreams: Array.from({ length: 17 }, (_, index) => ({ ...OPENAI, name: `u${index}` })) }),
    'spec.upstreams',
    'must be at most 16 items long',
    'Too many',
  ),
  refused(
    'a key in one word',
    budget({ upstreams: [{ ...OPENAI, credential: 'Passthrough' }] }),
    'spec.upstreams[0].credential',
    'must be a mapping; found a text',
    'must be of type object: "string"',
  ),
  refused(
    'a key from nowhere',
    budget({ upstreams: [{ ...OPENAI, credential: {} }] }),
    'spec.upstreams[0].credential.secretRef',
    'is required',
    'Required value',
  ),
  refused(
    'a Secret without its key',
    budget({ upstreams: [{ ...OPENAI, credential: { secretRef: { name: 'openai' } } }] }),
    'spec.upstreams[0].credential.secretRef.key',
    'is required',
    'Required value',
  ),
  refused(
    'a key that no Secret has',
    budget({ upstreams: [{ ...OPENAI, credential: { secretRef: { name: 'openai', key: 'a/b' } } }] }),
    'spec.upstreams[0].credential.secretRef.key',
    'must be a key of a Secret: letters, digits, "-", "_" and "."',
    'should match',
  ),
  refused(
    'a Secret of another namespace',
    budget({ upstreams: [{ ...OPENAI, credential: { secretRef: { ...KEY.secretRef, namespace: 'other' } } }] }),
    'spec.upstreams[0].credential.secretRef.namespace',
    'is not a field here',
    'unknown field',
  ),
  refused(
    'a limit in a number',
    budget({ limits: [{ amount: 50, period: { unit: 'Day' } }] }),
    'spec.limits[0].amount',
    `${DECIMAL}; found the number 50`,
    'must be of type string: "integer"',
  ),
  refused(
    'a day that begins late',
    budget({ limits: [{ amount: '50', period: { unit: 'Day', anchorDay: 2 } }] }),
    'spec.limits[0].period.anchorDay',
    'is for Week and Month only: every day begins at midnight',
  ),
  refused(
    'an eighth day of the week',
    budget({ limits: [{ amount: '50', period: { unit: 'Week', anchorDay: 8 } }] }),
    'spec.limits[0].period.anchorDay',
    'of a Week must be 1 (Monday) to 7 (Sunday)',
  ),
  refused(
    'an age without a unit',
    budget({ contractMaxAge: '30' }),
    'spec.contractMaxAge',
    'must be a duration such as "20m" or "24h"',
    'should match',
  ),
  refused(
    'an allowance of those who get none',
    budget({ onStoreFailure: { action: 'Deny', percent: 5 } }),
    'spec.onStoreFailure.percent',
    'goes with the action Allowance alone',
  ),
  refused(
    'stale in half a minute',
    budget({ onStale: { after: '30s' } }),
    'spec.onStale.after',
    'must be at least 1m: a sidecar is told every 15 seconds, and a restart of the operator takes longer',
  ),
  refused(
    'stale at once',
    budget({ onStale: { after: '0h0m', action: 'Deny' } }),
    'spec.onStale.after',
    'must be at least 1m: a sidecar is told every 15 seconds, and a restart of the operator takes longer',
  ),
  refused(
    'stale after nothing',
    budget({ onStale: { after: '' } }),
    'spec.onStale.after',
    'must be at least 2 characters long',
    'at least 2 chars long',
  ),
  refused(
    'stale after days',
    budget({ onStale: { after: '2d' } }),
    'spec.onStale.after',
    'must be a duration such as "20m" or "24h"',
    'should match',
  ),
  refused(
    'an unknown end of staleness',
    budget({ onStale: { action: 'Stop' } }),
    'spec.onStale.action',
    'must be one of Continue, Deny',
    'supported values: "Continue", "Deny"',
  ),
  refused(
    'an address of books that are in the pod',
    budget({ store: { kind: 'Embedded', redis: { secretRef: { name: 'our-valkey', key: 'url' } } } }),
    'spec.store.redis',
    'goes with the kind Shared alone: the books of Embedded are in the pod',
  ),
  refused(
    'a store in one word',
    budget({ store: 'embedded' }),
    'spec.store',
    'must be a mapping; found a text',
    'must be of type object: "string"',
  ),
  refused(
    'a store by its URL',
    budget({ store: { redis: { url: 'redis://valkey:6379', secretRef: { name: 'a', key: 'b' } } } }),
    'spec.store.redis.url',
    'is not a field here',
    'unknown field',
  ),
  refused(
    'injection by switch',
    budget({ injection: { mode: true } }),
    'spec.injection.mode',
    'must be one of BestEffort, Required; found the boolean true',
    'must be of type string: "boolean"',
  ),
  refused(
    'a rollout that is not there yet',
    budget({ injection: { rollout: 'Rolling' } }),
    'spec.injection.rollout',
    'must be OnDelete',
    'supported values: "OnDelete"',
  ),
  refused(
    'a container twice',
    budget({ injection: { excludeContainers: ['a', 'a'] } }),
    'spec.injection.excludeContainers[1]',
    'must be there only once: a',
    'Duplicate value',
  ),
  refused(
    'a container of no name',
    budget({ injection: { excludeContainers: ['Log_Shipper'] } }),
    'spec.injection.excludeContainers[0]',
    'must be the name of a container: lower-case letters, digits and "-"',
    'should match',
  ),
  refused(
    'a tag with its brackets',
    budget({ retrieval: { tags: ['<context>'] } }),
    'spec.retrieval.tags[0]',
    'must be a tag name without brackets',
    'should match',
  ),
  refused(
    'a field that is misspelt',
    budget({ onStael: {} }),
    'spec.onStael',
    'is not a field here (did you mean onStale?)',
    'unknown field',
  ),
  refused(
    'a label that is a number',
    budget({}, { labels: { version: 2 } }),
    'metadata.labels.version',
    'must be a text; found the number 2',
    'cannot unmarshal number',
  ),
  {
    name: 'all that is wrong is told at once',
    object: budget({ selector: {}, tier: { default: 'pro', allowed: ['a'] }, onStale: { after: '1s' } }),
    faults: [
      { field: 'spec.selector', says: 'must name at least one label' },
      {
        field: 'spec.tier.claim',
        says: 'is required beside allowed: the header that chooses among the tiers, such as { header: x-farebox-tier }',
      },
      {
        field: 'spec.onStale.after',
        says: 'must be at least 1m: a sidecar is told every 15 seconds, and a restart of the operator takes longer',
      },
    ],
  },
  {
    ...refused('nothing where a list is meant', budget({ limits: null }), 'spec.limits', 'must be a list; found nothing'),
    lintAlone: 'the API server takes nothing for the default, and who wrote `limits:` and left it so may have meant more',
  },
]

const BOOKS: readonly Case[] = [
  accepted('a book of nothing', book()),
  accepted(
    'a book that says all it may',
    book({
      entries: [
        {
          provider: 'openai',
          model: 'gpt-4o*',
          from: '2026-01-31',
          input: '2.5',
          output: '10.00',
          cacheRead: '0',
          cacheWriteShort: '0.000001',
          cacheWriteLong: '1',
          audioInput: '1',
          audioOutput: '1',
          imageInput: '1',
          imageOutput: '1',
          cacheReadAudio: '1',
          perSecond: '0.0001',
          perMillionCharacters: '15',
          perImage: '0.04',
          steps: [
            { inputOver: 1, input: '5' },
            { inputOver: 2, output: '20' },
          ],
          serviceTierPercent: { flex: 50 },
          toolFees: { webSearch: '0.01', fileSearch: '0', codeContainer: '0.03' },
          capabilities: {
            contextTokens: 1,
            maxOutputTokens: 1,
            modalities: ['image'],
            tools: 'Supported',
            structuredOutput: 'Unsupported',
            reasoning: 'Never',
            drop: ['stop'],
            rename: { max_tokens: 'max_completion_tokens' },
            source: 'our contract',
          },
        },
      ],
      exchangeRates: { EUR: '1.08', JPY: '0.0067' },
    }),
  ),
  refused(
    'a price without a model',
    book({ entries: [{ provider: 'openai', input: '1' }] }),
    'spec.entries[0].model',
    'is required',
    'Required value',
  ),
  refused(
    'a price in a number',
    book({ entries: [{ provider: 'openai', model: 'a', input: 2.5 }] }),
    'spec.entries[0].input',
    'must be a decimal in quotes, such as "2.50"; found the number 2.5',
    'must be of type string: "number"',
  ),
  refused(
    'a price of a seventh digit',
    book({ entries: [{ provider: 'openai', model: 'a', input: '0.0000001' }] }),
    'spec.entries[0].input',
    'must be below 10 million, with at most 6 digits after the point: it is US dollars per million tokens',
    'should match',
  ),
  refused(
    'steps that do not rise',
    book({ entries: [{ provider: 'openai', model: 'a', steps: [{ inputOver: 2 }, { inputOver: 2 }] }] }),
    'spec.entries[0].steps',
    'inputOver must rise from step to step',
  ),
  refused(
    'a rate of the dollar',
    book({ exchangeRates: { USD: '1' } }),
    'spec.exchangeRates',
    'must not hold USD: every rate is in US dollars',
  ),
  refused('a rate of nothing', book({ exchangeRates: { EUR: '0.0' } }), 'spec.exchangeRates', 'every rate must be above zero'),
  refused(
    'a rate of a currency in words',
    book({ exchangeRates: { Euro: '1.08' } }),
    'spec.exchangeRates',
    'keys must be currency codes such as EUR',
  ),
  refused(
    'a rate in a number',
    book({ exchangeRates: { EUR: 1.08 } }),
    'spec.exchangeRates.EUR',
    'must be a decimal in quotes, such as "1.08"; found the number 1.08',
    'must be of type string: "number"',
  ),
  refused(
    'a served tier in capitals',
    book({ entries: [{ provider: 'openai', model: 'a', serviceTierPercent: { Flex: 50 } }] }),
    'spec.entries[0].serviceTierPercent',
    'keys must be service tiers, in lower case',
  ),
  refused(
    'more prices than a book holds',
    book({ entries: Array.from({ length: 257 }, (_, index) => ({ provider: 'openai', model: `m${index}` })) }),
    'spec.entries',
    'must be at most 256 items long',
    'Too many',
  ),
]

export const CASES: readonly Case[] = [...TIERS, ...BUDGETS, ...BOOKS]
