/** What routers in front of many providers (OpenRouter, LiteLLM) take beside the fields of the formats that they speak, and models, that nobody can bound. */
import { isList, isObject } from '../core/message.ts'
import type { Json } from '../core/request.ts'

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
