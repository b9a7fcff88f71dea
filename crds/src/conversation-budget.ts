/** ConversationBudget: binds workloads of its namespace to tiers. `selector` and `tier.default` suffice. */
import * as z from 'zod'
import {
  Amount,
  API_VERSION,
  boundedMap,
  Count,
  Duration,
  HeaderName,
  Metadata,
  ObjectName,
  patterned,
  StatusBase,
  text,
} from './fields.ts'
import { CARRIERS, FALLBACKS, SCOPES, USER_CARRIERS } from './identity.ts'
import { PeriodSchema } from './period.ts'
import { rules } from './rules.ts'
import { ALLOWANCE_PERCENT, STORE_FAILURE_ACTIONS } from './store-failure.ts'
import { TrafficStatus } from './traffic-status.ts'

const LABEL_KEYS = {
  pattern: /^([a-z0-9A-Z.-]{1,253}[/])?[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?$/,
  message: 'keys must be label names, such as app or example.com/team',
}
const LabelValue = patterned(
  /^([a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?)?$/,
  63,
  'must be a label value: letters, digits, "-", "_" and "."',
)
const LabelExpression = rules(
  z.strictObject({
    key: patterned(LABEL_KEYS.pattern, 317, 'must be a label name, such as app or example.com/team').describe('The label.'),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('How it is compared.'),
    values: z.array(LabelValue).max(64).default([]).describe('For `In` and `NotIn`: what with.'),
  }),
  {
    rule: "(self.operator in ['In', 'NotIn']) == (size(self.values) > 0)",
    message: 'In and NotIn need values, Exists and DoesNotExist take none',
    fieldPath: '.values',
  },
)
const Selector = rules(
  z.strictObject({
    matchLabels: boundedMap(LabelValue, 16, LABEL_KEYS).default({}).describe('Labels that a pod must have.'),
    matchExpressions: z.array(LabelExpression).max(16).default([]).describe('Further conditions; all must hold.'),
  }),
  { rule: 'size(self.matchLabels) + size(self.matchExpressions) > 0', message: 'must name at least one label' },
)

const Tier = rules(
  z.strictObject({
    default: ObjectName.describe('The tier of conversations that claim none.'),
    allowed: z
      .array(ObjectName)
      .max(64)
      .default([])
      .meta({ 'x-kubernetes-list-type': 'set' })
      .describe('Tiers that a claim may choose; the default is always among them.'),
    claim: z
      .strictObject({ header: HeaderName.default('x-farebox-tier').describe('Its name; it is not forwarded.') })
      .optional()
      .describe('The request header that may choose among `allowed`; absent: none.'),
  }),
  {
    rule: 'has(self.claim) || size(self.allowed) == 0',
    message: 'is required beside allowed: the header that chooses among the tiers, such as { header: x-farebox-tier }',
    fieldPath: '.claim',
  },
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
  name: patterned(/^[a-z][a-z0-9-]{0,30}$/, 31, 'must be lower-case letters, digits and "-", beginning with a letter').describe(
    'The first path segment on the data plane: `openai` serves `/openai/v1/...`.',
  ),
  provider: text(1, 63).default('openai').describe('Whose price list applies. The wire format is that of OpenAI.'),
  baseURL: patterned(
    /^https?:[/][/][^ \t\r\n?#@]+$/,
    512,
    'must be an http or https URL without query, such as "https://api.openai.com/v1"',
  ).describe('Where requests go, version included.'),
  credential: z.enum(['Passthrough']).default('Passthrough').describe("The app's own key passes through unread."),
  injectUsage: z
    .enum(['Auto', 'Never'])
    .default('Auto')
    .describe('Ask streams for their usage and take it out again when the client did not ask.'),
  outputLimitField: z
    .enum(['max_completion_tokens', 'max_tokens'])
    .default('max_completion_tokens')
    .describe('The field that bounds output when a request has none.'),
})

const OnStoreFailure = rules(
  z.strictObject({
    action: z
      .enum(STORE_FAILURE_ACTIONS)
      .default('Allowance')
      .describe(
        '`Allowance`: each sidecar goes on within `percent` of each budget. `Deny`: no new calls. `Allow`: each sidecar goes on as if it were alone.',
      ),
    percent: z
      .int()
      .min(1)
      .max(100)
      .optional()
      .describe(`For \`Allowance\`: percent of a budget that each sidecar may spend on it meanwhile. Default ${ALLOWANCE_PERCENT}.`),
  }),
  {
    rule: "self.action == 'Allowance' || !has(self.percent)",
    message: 'goes with the action Allowance alone',
    fieldPath: '.percent',
  },
)

const ToolNames = z.array(text(1, 128)).max(64).default([]).describe('Tools by name; a trailing `*` matches the rest.')

const Spec = z.strictObject({
  selector: Selector.describe('Labels of the pods that this governs.'),
  tier: Tier.describe('Which plans the conversations of these pods are on.'),
  mode: z.enum(['Enforce', 'Observe']).default('Enforce').describe('`Observe` decides and reports, and changes nothing.'),
  identity: Identity.prefault({}).describe('How conversations and users are told apart.'),
  upstreams: z
    .array(Upstream)
    .max(16)
    .default([])
    .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] })
    .describe('Model providers; empty: OpenAI at its own address.'),
  limits: z
    .array(z.strictObject({ amount: Amount.describe('US dollars.'), period: PeriodSchema.describe('How long it lasts.') }))
    .max(8)
    .default([])
    .describe('Blast radius of the workload, whoever talks.'),
  existingConversations: z
    .enum(['KeepContract', 'AdoptNew'])
    .default('KeepContract')
    .describe('Whether a conversation keeps the terms that it started under.'),
  contractMaxAge: Duration.default('720h').describe('After this a kept contract is replaced by the newest.'),
  onUnknownModel: z
    .enum(['Ceiling', 'Refuse', 'Free'])
    .default('Ceiling')
    .describe("What a model without a price costs: the provider's dearest, nothing goes, or nothing at all."),
  onDisconnect: z
    .enum(['Cancel', 'Drain'])
    .default('Cancel')
    .describe('When a client leaves: stop the provider, or read its answer to the end for its usage.'),
  ungoverned: z.enum(['Refuse', 'Pass']).default('Refuse').describe('Endpoints that are not metered.'),
  onStoreFailure: OnStoreFailure.prefault({}).describe('What new calls may spend while the store that replicas share is away.'),
  retrieval: z
    .strictObject({
      toolNames: ToolNames,
      tags: z
        .array(patterned(/^[A-Za-z][A-Za-z0-9_-]*$/, 64, 'must be a tag name without brackets'))
        .max(16)
        .default([])
        .describe('Tags, without brackets.'),
    })
    .prefault({})
    .describe('How retrieved context is marked: results of these tools, text between these tags.'),
  resolution: z
    .strictObject({ toolNames: ToolNames })
    .prefault({})
    .describe('How a resolved conversation is known: by the app API, or by an answer that calls one of these tools.'),
})

const Status = z.strictObject({
  ...StatusBase,
  config: z
    .strictObject({
      version: Count.describe('Grows with each change.'),
      hash: patterned(/^[0-9a-f]{16}$/, 16, 'must be a hash').describe('Of its content.'),
    })
    .optional()
    .describe('The config in force.'),
  ...TrafficStatus,
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
