/** ConversationBudget: binds workloads of its namespace to tiers. `selector` and `tier.default` suffice. */
import * as z from 'zod'
import { SKIP_REASONS } from './cluster.ts'
import {
  Amount,
  API_VERSION,
  boundedMap,
  Count,
  Duration,
  durationRule,
  HeaderName,
  LABEL_NAME,
  LABEL_VALUE,
  Metadata,
  ModelName,
  ObjectName,
  patterned,
  SecretRef,
  StatusBase,
  text,
  Tokens,
  UpstreamName,
} from './fields.ts'
import { CARRIERS, CLAIM_TOKEN_FORMATS, DEFAULT_CARRIERS, FALLBACKS, SCOPES, USER_CARRIERS } from './identity.ts'
import { PeriodSchema } from './period.ts'
import { rules } from './rules.ts'
import { HOSTED_CALLS_MAX } from './sidecar-config.ts'
import { STALE_ACTIONS } from './stale.ts'
import { ALLOWANCE_PERCENT, STORE_FAILURE_ACTIONS } from './store-failure.ts'
import { TrafficStatus } from './traffic-status.ts'

const LabelValue = patterned(LABEL_VALUE.pattern, 63, LABEL_VALUE.message)
const LabelExpression = rules(
  z.strictObject({
    key: patterned(LABEL_NAME.pattern, 317, LABEL_NAME.message).describe('The label.'),
    operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']).describe('How it is compared.'),
    values: z.array(LabelValue).max(64).default([]).describe('For `In` and `NotIn`: what with.'),
  }),
  {
    rule: "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    message: 'In and NotIn need values, Exists and DoesNotExist take none',
    fieldPath: '.values',
  },
)
const Selector = rules(
  z.strictObject({
    matchLabels: boundedMap(LabelValue, 16, {
      pattern: LABEL_NAME.pattern,
      message: 'keys must be label names, such as app or example.com/team',
    })
      .default({})
      .describe('Labels that a pod must have.'),
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
      .strictObject({
        header: HeaderName.default('x-farebox-tier').describe('Its name; it is not forwarded.'),
        token: z
          .strictObject({
            format: z.enum(CLAIM_TOKEN_FORMATS).describe('How: by HMAC-SHA256 over a short text, or as a JSON Web Token. Either expires.'),
            secretRef: z
              .strictObject({ name: ObjectName.describe('A Secret of the same namespace.') })
              .describe(
                'Every entry of it is a key, and its name the id of the key. All of them are accepted (of more than 256 the first by name), so that keys can be rotated: add the new one, sign by it, take the old one away.',
              ),
          })
          .optional()
          .describe('The header holds a signed token; absent: the plain name of a tier, from whoever sends it.'),
      })
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
    .default([...DEFAULT_CARRIERS])
    .describe(
      "Where a conversation id may come from, first hit wins. `Header`: `x-farebox-conversation`. `Baggage`: `gen_ai.conversation.id`, `session.id`. `Metadata`: `conversation_id`, `session_id`, `thread_id`. The others: OpenAI's `conversation`, `previous_response_id`, and `prompt_cache_key`: only together with a user, and for apps alone that have one key for each chat.",
    ),
  headers: z.array(HeaderName).max(16).default([]).describe('Further request headers read like `x-farebox-conversation`, after it.'),
  userCarriers: z
    .array(z.enum(USER_CARRIERS))
    .max(USER_CARRIERS.length)
    .default([...USER_CARRIERS])
    .describe(
      'Where a user id may come from, first hit wins: `x-farebox-user`, `safety_identifier`, `user`, and `user_id` of the metadata.',
    ),
  fallback: z
    .enum(FALLBACKS)
    .default('PrefixChain')
    .describe('What names a conversation when no carrier does. `Workload`: one conversation for all, or for each user where one is known.'),
  scope: z.enum(SCOPES).default('Namespace').describe('Who shares a conversation id.'),
})

/** What other headers of an upstream there may be at most, and how long the value of a plain one. */
const UPSTREAM_HEADERS_MAX = 8
const HEADER_VALUE_LENGTH_MAX = 1024

/**
 * Names that no owner may set: of the connection and the body, which the sidecar writes; by which a call would be another one than was
 * read and priced; and ours.
 */
const HEADERS_NOT_SET =
  /^(authorization|host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|via|forwarded|baggage|accept|accept-encoding|idempotency-key|anthropic-beta|x-http-method-override|x-http-method|x-method-override|x-goog-fieldmask|x-original-url|x-rewrite-url|x-vertex-ai-llm-shared-request-type|content-.*|proxy-.*|x-farebox-.*)$/

const UpstreamHeader = rules(
  z.strictObject({
    name: patterned(/^[a-z0-9-]+$/, 64, 'must be a header name in lower case: letters, digits and "-"').describe(
      'Its name, in lower case. What the app sends under it is replaced.',
    ),
    value: patterned(
      /^[!-~]([ -~]*[!-~])?$/,
      HEADER_VALUE_LENGTH_MAX,
      'must be printable ASCII without blanks around it, in quotes where it is a number',
    )
      .optional()
      .describe('Its value, for what is no secret, such as the name of a route. Absent: it is in `secretRef`.'),
    secretRef: SecretRef.optional().describe(
      'Where its value is, for sidecars alone, of pods that start from now on. Absent: it is `value`.',
    ),
  }),
  {
    rule: 'has(self.value) != has(self.secretRef)',
    message: 'must have either value or secretRef',
  },
  {
    rule: `!self.name.matches('${HEADERS_NOT_SET.source}')`,
    message:
      'must be a header that an owner may set: none of the connection, the body or the kind of call, and none of x-farebox-*; the key in authorization is credential',
    fieldPath: '.name',
  },
)

const Upstream = rules(
  z.strictObject({
    name: UpstreamName.describe('The first path segment on the data plane: `openai` serves `/openai/v1/...`.'),
    provider: text(1, 63)
      .default('openai')
      .describe(
        "Whose price list applies, and whose wire format: `anthropic` speaks Anthropic's Messages, `google` Gemini's, `azure` OpenAI's by deployments, every other OpenAI's.",
      ),
    baseURL: patterned(
      /^https?:[/][/][^ \t\r\n?#@]+$/,
      512,
      'must be an http or https URL without query, such as "https://api.openai.com/v1"',
    ).describe(
      "Where requests go. For `anthropic` and OpenAI's format with the version (`https://api.openai.com/v1`); for `google` and `azure` without: the paths of their SDKs have it.",
    ),
    credential: z
      .strictObject({
        secretRef: SecretRef.describe(
          "Where it is. Sidecars of pods that start from now on hold it, and the apps' containers get a key that is worth nothing. Whoever writes this says by `baseURL` where the key goes.",
        ),
      })
      .optional()
      .describe(
        "The provider's key, for sidecars alone: an app that has none cannot go past them. Absent: the app's own key passes through unread.",
      ),
    headers: z
      .array(UpstreamHeader)
      .max(UPSTREAM_HEADERS_MAX)
      .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] })
      .optional()
      .describe(
        "Headers that sidecars set on each call to it, their own calls too: a gateway's key beside the provider's, or what it routes by. Absent: none.",
      ),
    injectUsage: z
      .enum(['Auto', 'Never'])
      .default('Auto')
      .describe('Ask streams for their usage and take it out again when the client did not ask.'),
    outputLimitField: z
      .enum(['max_completion_tokens', 'max_tokens'])
      .optional()
      .describe(
        'The field that bounds output when a request has none. Absent: `max_completion_tokens` for the providers openai and azure, `max_tokens` for all others.',
      ),
    deployments: z
      .array(
        z.strictObject({
          name: patterned(/^[A-Za-z0-9._-]{1,64}$/, 64, 'must be 1 to 64 letters, digits, ".", "_" and "-"').describe('As paths have it.'),
          model: ModelName.describe('The model, as price lists call it.'),
        }),
      )
      .max(64)
      .default([])
      .meta({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': ['name'] })
      .describe('What each deployment of Azure serves; one that is not here is taken to be called like its model.'),
  }),
  {
    rule: "!has(self.deployments) || size(self.deployments) == 0 || (has(self.provider) && self.provider == 'azure')",
    message: 'is for the provider azure only: others are asked for models by name',
    fieldPath: '.deployments',
  },
  {
    rule: "!has(self.headers) || !has(self.provider) || !self.headers.exists(header, (header.name == 'x-api-key' && self.provider == 'anthropic') || (header.name == 'api-key' && self.provider == 'azure') || (header.name == 'x-goog-api-key' && self.provider == 'google'))",
    message: "must not have the header of the provider's own key: that is credential",
    fieldPath: '.headers',
  },
  { rule: "self.name != 'farebox'", message: 'must not be farebox: that path is the app API', fieldPath: '.name' },
)

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

const OnStale = rules(
  z.strictObject({
    after: Duration.default('24h').describe('How long a sidecar must not have been told what is in force. At least `1m`.'),
    action: z
      .enum(STALE_ACTIONS)
      .default('Continue')
      .describe('`Continue`: it goes on with the last config that it had. `Deny`: no new calls.'),
  }),
  durationRule(
    'after',
    { min: '1m' },
    'must be at least 1m: a sidecar is told every 15 seconds, and a restart of the operator takes longer',
  ),
)

const Store = rules(
  z.strictObject({
    kind: z
      .enum(['Shared', 'Embedded'])
      .default('Shared')
      .describe('`Shared`: the replicas of a workload draw on the same budgets. `Embedded`: each pod has books of its own.'),
    redis: z
      .strictObject({
        secretRef: SecretRef.describe(
          'Holds its URL, `redis://` or `rediss://`, user and password in it. Where the Secret has a key `ca.crt` too, certificates in PEM, those alone are trusted for `rediss://`; else public authorities are.',
        ),
      })
      .optional()
      .describe('A Redis or Valkey of yours; absent: the one that came with the chart.'),
  }),
  {
    rule: "self.kind == 'Shared' || !has(self.redis)",
    message: 'goes with the kind Shared alone: the books of Embedded are in the pod',
    fieldPath: '.redis',
  },
)

const ContainerName = patterned(
  /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
  63,
  'must be the name of a container: lower-case letters, digits and "-"',
)
const Injection = z.strictObject({
  mode: z
    .enum(['BestEffort', 'Required'])
    .default('BestEffort')
    .describe(
      'Of a pod that starts while sidecars cannot be injected: `BestEffort` lets it run ungoverned and counts it, `Required` refuses it.',
    ),
  rollout: z
    .enum(['OnDelete'])
    .default('OnDelete')
    .describe('When pods that run already get what has changed: as they are replaced. Terms and prices reach them at once.'),
  excludeContainers: z
    .array(ContainerName)
    .max(16)
    .default([])
    .meta({ 'x-kubernetes-list-type': 'set' })
    .describe('Containers whose environment stays as it is: they find no way to the sidecar by themselves.'),
})

const ToolNames = z.array(text(1, 128)).max(64).default([]).describe('Tools by name; a trailing `*` matches the rest.')

const Resolution = rules(
  z.strictObject({
    toolNames: ToolNames,
    quietPeriod: Duration.optional().describe(
      'A conversation without a turn for so long is assumed to be resolved, where its tier is priced `PerResolution`. At least `1m`; absent: none is.',
    ),
    reopenWindow: Duration.default('72h').describe('A user turn within this time of a resolution takes it back.'),
  }),
  durationRule('quietPeriod', { min: '1m' }, 'must be at least 1m'),
)

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
    .describe('Model providers; empty: `openai`, `anthropic` and `gemini`, each at its own address.'),
  limits: z
    .array(z.strictObject({ amount: Amount.describe('US dollars.'), period: PeriodSchema.describe('How long it lasts.') }))
    .max(8)
    .default([])
    .describe('Blast radius of the workload, whoever talks. Reached, calls are 402, however the ladder ends.'),
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
  ungoverned: z
    .enum(['Refuse', 'Pass'])
    .default('Refuse')
    .describe(
      'Endpoints that are not metered. With `Pass` a key that sidecars hold goes with them too: an app may spend by them, or make itself a key where the provider has an endpoint for that.',
    ),
  onStoreFailure: OnStoreFailure.prefault({}).describe('What new calls may spend while the store that replicas share is away.'),
  onStale: OnStale.prefault({}).describe('What a sidecar does that the operator and its mounted config have not reached for long.'),
  store: Store.prefault({}).describe('Where the books are kept.'),
  injection: Injection.prefault({}).describe('How pods get their sidecars.'),
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
    .describe(
      'How retrieved context is marked: results of these tools, text between these tags. What apps mark themselves counts as well.',
    ),
  taskBoundary: z
    .strictObject({ toolNames: ToolNames })
    .prefault({})
    .describe(
      'How the end of a task is known: by the header `x-farebox-boundary`, by the app API, or by an answer that calls one of these tools.',
    ),
  resolution: Resolution.prefault({}).describe(
    'How a resolved conversation is known: by the app API, or by an answer that calls one of these tools.',
  ),
  hostedTools: z
    .strictObject({
      maxCalls: z
        .int()
        .min(1)
        .max(HOSTED_CALLS_MAX)
        .optional()
        .describe(
          'The most calls of one request; the provider is told, where it takes a bound. A request that gives none itself is bounded to 10, or to this where it is less. Tools that take no bound, such as running code, are held for with 10 calls whatever this says. Absent: what the request gives, or 10.',
        ),
      maxResultTokens: Tokens.optional().describe(
        'The most that the result of one call adds to the input; absent: whatever the window of the model holds.',
      ),
    })
    .prefault({})
    .describe('Bounds of tools that the provider runs itself, such as web search: they tell how much a request with them may cost.'),
})

/** Pods that a status names, and the length of what it says of each: an object's status stays below 16 KiB. */
export const PODS_SHOWN_MAX = 16
export const POD_MESSAGE_CHARS_MAX = 200

const Workloads = z.strictObject({
  matched: Count.describe('Pods that it governs.'),
  injected: Count.describe('Of them, those with a sidecar.'),
  inSync: Count.describe('Sidecars that have the config in force.'),
  outdated: Count.describe('Pods whose sidecar would be another if they started today; replace them when it suits you.'),
  nacked: Count.describe('Sidecars that refused the newest config and go on with the one before.'),
  stale: Count.describe('Sidecars that have not been heard of for long.'),
  notStarting: Count.optional().describe(
    'Pods that cannot start for their sidecar: its image cannot be pulled, or its container cannot run. Absent: none.',
  ),
  skipped: boundedMap(Count, SKIP_REASONS.length, {
    pattern: new RegExp(`^(${SKIP_REASONS.join('|')})$`),
    message: 'keys must be reasons for which pods have no sidecar',
  }).describe('Pods without a sidecar, by reason; reasons without any are left out.'),
  worst: z
    .array(
      z.strictObject({
        pod: ObjectName.describe('Its name.'),
        trouble: z.enum(['NotStarting', 'Nacked', 'NotInjected', 'Stale', 'Outdated']).describe('What is the matter.'),
        message: text(0, POD_MESSAGE_CHARS_MAX).describe('Why, for people.'),
      }),
    )
    .max(PODS_SHOWN_MAX)
    .optional()
    .describe('Pods that somebody should look at, the worst first; the counts above tell how many there are.'),
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
  workloads: Workloads.optional().describe('The pods that it selects; absent outside of a cluster.'),
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
