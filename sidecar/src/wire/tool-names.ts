/**
 * What the name of a tool says of it, in whatever format it stands: routers take tools of one format in another. A name may be written
 * `googleSearch` or `google_search`. What nobody here knows may be run by the provider, which then reads all again after each call (`browser_search`
 * of Groq, `mcp`).
 */
import { isObject } from '../core/message.ts'
import type { JsonObject } from '../core/request.ts'

/** Results of Google's searches that are held for: nobody can bound how often an answer searches. */
export const GOOGLE_SEARCHES_MAX = 10

/** Whether the app runs it: each call ends the answer. */
export function isRunByApp(name: string): boolean {
  const plain = plainName(name)
  return APP_TOOLS.has(plain) || DATED_APP_TOOL.test(plain)
}

/** Whether it is a shell in a container of the provider's, the one kind of a shell that the app does not run. */
export function isHostedShell({ type, environment }: JsonObject): boolean {
  return type === 'shell' && isObject(environment) && environment['type'] !== 'local'
}

/** Whether it is a search for tools that the app makes: it gives what it finds in its next call. Without `execution` the provider searches. */
export function isAppToolSearch({ type, execution }: JsonObject): boolean {
  return type === 'tool_search' && execution === 'client'
}

/** Whether it searches the web, or what is like it, for a fee. */
export function isWebSearch(name: string): boolean {
  return plainName(name).startsWith('websearch') || isGoogleSearch(name)
}

/** Whether it is one of Google's, which bills what they find as input, once. */
export function isGoogleSearch(name: string): boolean {
  return GOOGLE_SEARCHES.has(plainName(name))
}

/** By its plain name. */
// oxfmt-ignore
const APP_TOOLS: ReadonlySet<string> = new Set([
  'function', 'custom', 'namespace', 'computer', 'computer_use_preview', 'local_shell', 'shell', 'apply_patch', // OpenAI
  'function_declarations', 'computer_use', // Gemini
  'builtin_function', // Kimi, whose searches the app sends back as they came
].map(plainName))
/** Anthropic's, by their day. */
const DATED_APP_TOOL = /^(?:bash|computer|memory|texteditor)\d{8}$/
const GOOGLE_SEARCHES: ReadonlySet<string> = new Set(
  ['google_search', 'google_search_retrieval', 'google_maps', 'enterprise_web_search'].map(plainName),
)

function plainName(name: string): string {
  return name.replaceAll('_', '').toLowerCase()
}
