/** What routers in front of many providers (OpenRouter, LiteLLM, Portkey) take beside the fields of the formats that they speak, and models, that nobody can bound. */
import { isList, isObject } from '../core/message.ts'
import type { Json } from '../core/request.ts'
import { parameterName, parametersIn } from './query.ts'

/** LiteLLM's, the first also Anthropic's. https://docs.litellm.ai/docs/proxy/reliability */
const FALLBACKS = ['fallbacks', 'context_window_fallbacks', 'content_policy_fallbacks']
/** Plugins that use nothing which is billed apart from the call. https://openrouter.ai/docs/guides/features/plugins */
const FREE_PLUGINS: ReadonlySet<Json | undefined> = new Set(['response-healing', 'context-compression'])
/** Tools that the router runs, as often as the model likes. https://openrouter.ai/docs/guides/features/server-tools */
const ROUTER_TOOL = /^openrouter:/
/** https://openrouter.ai/docs/guides/features/presets */
const PRESET = /@preset\//
/** Short for the plugin `web`, whose fee depends on who searches and how much is found. https://openrouter.ai/docs/features/web-search */
const ONLINE = /:online(?::|$)/
/** Models that are several agents, whose readings are all billed: many times what one call reads. https://docs.x.ai/developers/models/grok-4.20-multi-agent */
const SEVERAL_AGENTS = /grok-[^/]*multi-agent/
/** Whose own field `reasoning.mode` is, for the model that is named; a router takes another one for it. */
const KNOWING_MODES: ReadonlySet<string> = new Set(['openai', 'azure'])

/**
 * What lets a router ask another model than the request names, which is neither allowed nor held for, or adds services with fees of
 * their own; null: nothing. `value`: of a top-level field; undefined or null where it is absent. A list of models that has no other is none.
 * `provider`: who is asked; empty: anybody.
 */
export function routerUse(value: (name: string) => Json | undefined, tools: readonly Json[] = [], provider = ''): string | null {
  const model = value('model') ?? null
  const name = typeof model === 'string' ? model : ''
  if (
    namesOthers(value('models') ?? null, model) ||
    namesOthers(gatewayModels(value('providerOptions')), model) ||
    FALLBACKS.some((field) => isAny(value(field) ?? null)) ||
    value('route') === 'fallback'
  )
    return 'A request with fallbacks, which are other models,'
  if ((value('preset') ?? null) !== null || PRESET.test(name)) return 'A preset, whose models and tools only the provider has,'
  if (!KNOWING_MODES.has(provider) && isOtherMode(value('reasoning'))) return 'A mode of reasoning, for which a router takes another model,'
  if (SEVERAL_AGENTS.test(name)) return 'A model that is several agents, which read and write as often as they like,'
  if (ONLINE.test(name)) return 'A search of the web before the call (":online")'
  const plugins = value('plugins') ?? []
  if (!isList(plugins) || plugins.some(isBilled)) return 'A request with plugins, which the provider bills for themselves,'
  if (tools.some((tool) => isObject(tool) && typeof tool['type'] === 'string' && ROUTER_TOOL.test(tool['type'])))
    return 'A request with tools that a router runs as often as the model likes'
  return null
}

function namesOthers(models: Json, model: Json): boolean {
  return isList(models) ? models.some((each) => each !== model) : models !== null
}

/** Those that Vercel's AI Gateway falls back to. https://vercel.com/docs/ai-gateway/models-and-providers/model-fallbacks */
function gatewayModels(options: Json | undefined): Json {
  const gateway = isObject(options) ? options['gateway'] : null
  return isObject(gateway) ? (gateway['models'] ?? null) : null
}

/** https://openrouter.ai/docs/cookbook/evaluate-and-optimize/model-migrations/gpt-5-6 */
function isOtherMode(reasoning: Json | undefined): boolean {
  return isObject(reasoning) && (reasoning['mode'] ?? 'standard') !== 'standard'
}

function isAny(value: Json): boolean {
  return isList(value) ? value.length > 0 : value !== null
}

function isBilled(plugin: Json): boolean {
  return !isObject(plugin) || (plugin['enabled'] !== false && !FREE_PLUGINS.has(plugin['id']))
}

/** A header by which a gateway asks another than the base URL and the body of a call name. */
export interface RoutingHeader {
  readonly name: string
  /** It may name another model. Else no more than a host, or the provider of the same one. */
  readonly namesModel: boolean
}

/** The header of a raw list (name, value, name, value) by which a gateway is led elsewhere, before others one that may name a model; null: none. */
export function routingHeader(raw: readonly string[]): RoutingHeader | null {
  let found: RoutingHeader | null = null
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? ''
    if (!MAY_ROUTE.test(name)) continue
    const lower = name.toLowerCase()
    const chosen = chosenBy(lower.replace(HANDED_ON, ''))
    if (chosen === 'model') return { name: lower, namesModel: true }
    if (chosen === 'host') found ??= { name: lower, namesModel: false }
  }
  return found
}

/** LiteLLM takes a model of the query before that of the body (`model` of its routes in litellm/proxy/proxy_server.py). */
export function queryNamesModel(path: string): boolean {
  return path.includes('?') && parametersIn(path).some((parameter) => parameterName(parameter) === 'model')
}

type Chosen = 'model' | 'host' | 'nothing'

/** Beginnings of the names below: nearly all headers are done with here. */
const MAY_ROUTE = /^(?:x-(?:p(?:ass|ortkey|rovider)|bf-eh|bt-e|tfy-p|envoy-o)|helicone-[fot]|oe-)/i
/**
 * What follows is handed on by its own name, to a gateway that may stand behind. https://docs.litellm.ai/docs/proxy/forward_client_headers
 * https://docs.getbifrost.ai/providers/request-options
 */
const HANDED_ON = /^x-(?:pass|bf-eh)-/
const PORTKEY = 'x-portkey-'

/** Cloudflare's (`cf-aig-`), LiteLLM's own (`x-litellm-`) and OpenRouter's choose nothing beyond what their owner has set up. */
const CHOSEN: ReadonlyMap<string, Chosen> = new Map([
  // https://docs.helicone.ai/helicone-headers/header-directory
  ['helicone-target-url', 'host'],
  ['helicone-target-provider', 'host'],
  ['helicone-openai-api-base', 'host'],
  // A list of other hosts, each with headers and fields of its own: https://docs.helicone.ai/getting-started/integration-method/gateway-fallbacks
  ['helicone-fallbacks', 'model'],
  // https://www.truefoundry.com/docs/ai-gateway/request-headers
  ['x-tfy-provider-name', 'host'],
  // https://www.braintrust.dev/docs/kb/route-requests-to-specific-ai-providers
  ['x-bt-endpoint-name', 'host'],
  // Noveum, WSO2: https://wso2.com/api-platform/docs/ai-gateway/2026.10.0/routing/routing-policies/llm-header-routing/
  ['x-provider', 'host'],
  // https://edgeone.ai/document/161950665710956544
  ['oe-ai-provider', 'host'],
  // https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/clusters/original_dst/v3/original_dst.proto
  ['x-envoy-original-dst-host', 'host'],
])

/** A whole configuration, models and fallbacks in it; the name of a model, or of what serves one. */
const PORTKEY_MODEL =
  /^(?:config|prompt-.*|.*-(?:model|model-name|bedrock-model|deployment-id|deployment-name|endpoint-name)|amzn-sagemaker-.*)$/
/** https://portkey.ai/docs/api-reference/inference-api/headers */
const PORTKEY_PLAIN: ReadonlySet<string> = new Set([
  'api-key',
  'trace-id',
  'span-id',
  'span-name',
  'parent-span-id',
  'metadata',
  'cache',
  'cache-force-refresh',
  'cache-namespace',
  'cache-ttl',
  'retry-count',
  'request-timeout',
  'strict-open-ai-compliance',
  'debug',
  'runtime',
  'runtime-version',
  'package-version',
  'openai-organization',
  'openai-project',
  'openai-beta',
  'anthropic-beta',
  'anthropic-version',
])

function chosenBy(name: string): Chosen {
  if (!name.startsWith(PORTKEY)) return CHOSEN.get(name) ?? 'nothing'
  const option = name.slice(PORTKEY.length)
  if (PORTKEY_PLAIN.has(option)) return 'nothing'
  // Of each provider it takes names of accounts, regions and resources, from which it makes the host (src/handlers/handlerUtils.ts of its gateway).
  return PORTKEY_MODEL.test(option) ? 'model' : 'host'
}
