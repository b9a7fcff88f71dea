/** ConversationBudget: binds workloads of its namespace to tiers. `selector` and `tier.default` suffice. */
import * as z from 'zod'
import { API_VERSION, Amount, Conditions, Duration, HeaderName, Metadata, ObjectName } from './fields.ts'
import { CARRIERS, FALLBACKS, SCOPES, USER_CARRIERS } from './identity.ts'
import { PeriodSchema } from './period.ts'
import { rules } from './rules.ts'

const LabelKey = z.string().min(1).max(317)
const Selector = rules(
  z.strictObject({
    matchLabels: z.record(LabelKey, z.string().max(63)).default({}),
    matchExpressions: z
      .array(z.strictObject({ key: LabelKey, operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']), values: z.array(z.string().max(63)).max(64).default([]) }))
      .max(16)
      .default([]),
  }),
  { rule: 'size(self.matchLabels) + size(self.matchExpressions) > 0', message: 'selector must name at least one label' },
)

const Tier = rules(
  z.strictObject({
    default: ObjectName.describe('The tier of conversations that claim none.'),
    allowed: z.array(ObjectName).max(64).default([]).meta({ 'x-kubernetes-list-type': 'set' }).describe('Tiers that a claim may choose; the default is always among them.'),
    claim: z.strictObject({ header: HeaderName.default('x-farebox-tier') }).optional().describe('The request header that may choose among `allowed`; absent: none.'),
  }),
  { rule: 'has(self.claim) || size(self.allowed) == 0', message: 'allowed tiers can only be chosen by a claim: name the header that carries it', fieldPath: '.claim' },
)

const Identity = z.strictObject({
  carriers: z
    .array(z.enum(CARRIERS))
    .max(CARRIERS.length)
    .default([...CARRIERS])
    .describe('Where a conversation id may come from, first hit wins.'),
  headers: z.array(HeaderName).max(16).default([]).describe('Further request headers read like `x-farebox-conversation`, after it.'),
  userCarriers: z
    .array(z.enum(USER_CARRIERS))
    .max(USER_CARRIERS.length)
    .default([...USER_CARRIERS])
    .describe('Where a user id may come from, first hit wins.'),
  fallback: z.enum(FALLBACKS).default('PrefixChain').describe('What names a conversation when no carrier does.'),
  scope: z.enum(SCOPES).default('Namespace').describe('Who shares a conversation id.'),
})

const Upstream = z.strictObject({
  name: z
    .string()
    .max(31)
    .regex(/^[a-z][a-z0-9-]{0,30}$/, 'must be lower-case letters, digits and "-", beginning with a letter')
    .describe('The first path segment on the data plane: `openai` serves `/openai/v1/...`.'),
  provider: z.string().min(1).max(63).default('openai').describe('Whose price list applies. The wire format is that of OpenAI.'),
  baseURL: z
    .string()
    .max(512)
    .regex(/^https?:\/\/[^\s?#@]+$/, 'must be an http or https URL without query, such as "https://api.openai.com/v1"')
    .describe('Where requests go, version included.'),
  credential: z.enum(['Passthrough']).default('Passthrough').describe("The app's own key passes through unread."),
  injectUsage: z.enum(['Auto', 'Off']).default('Auto').describe('Ask streams for their usage and take it out again when the client did not ask.'),
  outputLimitField: z.enum(['max_completion_tokens', 'max_tokens']).default('max_completion_tokens').describe('The field that bounds output when a request has none.'),
})

const ToolNames = z.array(z.string().min(1).max(128)).max(64).default([])

const Spec = z.strictObject({
  selector: Selector.describe('Labels of the pods that this governs.'),
  tier: Tier,
  mode: z.enum(['Enforce', 'Observe']).default('Enforce').describe('`Observe` decides and reports, and changes nothing.'),
  identity: Identity.prefault({}),
  upstreams: z.array(Upstream).max(16).default([]).meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] }).describe('Model providers; empty: OpenAI at its own address.'),
  limits: z
    .array(z.strictObject({ amount: Amount.describe('US dollars.'), period: PeriodSchema }))
    .max(8)
    .default([])
    .describe('Blast radius of the workload, whoever talks.'),
  existingConversations: z.enum(['KeepContract', 'AdoptNew']).default('KeepContract').describe('Whether a conversation keeps the terms that it started under.'),
  contractMaxAge: Duration.default('720h').describe('After this a kept contract is replaced by the newest.'),
  onUnknownModel: z.enum(['Ceiling', 'Refuse', 'Free']).default('Ceiling').describe("What a model without a price costs: the provider's dearest, nothing goes, or nothing at all."),
  onDisconnect: z.enum(['Cancel', 'Drain']).default('Cancel').describe('When a client leaves: stop the provider, or read its answer to the end for its usage.'),
  ungoverned: z.enum(['Refuse', 'Pass']).default('Refuse').describe('Endpoints that are not metered.'),
  retrieval: z
    .strictObject({ toolNames: ToolNames, tags: z.array(z.string().max(64).regex(/^[A-Za-z][A-Za-z0-9_-]*$/, 'must be a tag name without brackets')).max(16).default([]) })
    .prefault({})
    .describe('How retrieved context is marked: results of these tools (a trailing `*` matches the rest), text between these tags.'),
  resolution: z
    .strictObject({ toolNames: ToolNames, quietPeriod: Duration.default('72h'), reopenWindow: Duration.default('168h') })
    .prefault({})
    .describe('How a resolved conversation is known: by the app API, or by an answer that calls one of these tools.'),
})

const Usd = z.string().max(24)
const Status = z.strictObject({
  observedGeneration: z.int().min(0).optional(),
  conditions: Conditions.optional(),
  config: z.strictObject({ version: z.int().min(0), hash: z.string().max(16) }).optional(),
  conversations: z.strictObject({ active: z.int().min(0), byRung: z.record(z.string().max(32), z.int().min(0)) }).optional(),
  spend: z.strictObject({ total: Usd, held: Usd }).optional().describe('US dollars.'),
  cost: z.strictObject({ p50: Usd, p95: Usd, p99: Usd, max: Usd }).optional().describe('US dollars per conversation.'),
  alerts: z.record(z.string().max(8), z.int().min(0)).optional(),
  resolutions: z.strictObject({ confirmed: z.int().min(0), reversed: z.int().min(0), costPer: Usd.optional() }).optional(),
  margin: z.strictObject({ targetPercent: z.int().optional(), realisedPercent: z.int().optional() }).optional(),
})

export const ConversationBudgetSchema = z.strictObject({
  apiVersion: z.enum([API_VERSION]),
  kind: z.enum(['ConversationBudget']),
  metadata: Metadata,
  spec: Spec,
  status: Status.optional(),
})
export type ConversationBudget = z.infer<typeof ConversationBudgetSchema>
export type ConversationBudgetStatus = z.infer<typeof Status>
