/**
 * Tools of OpenAI's Responses API, where they stand: in the field `tools`, which is of one call, and in items of the input, which bring them to
 * every later call that has the item in its history, whether the app sends that or the provider keeps it.
 */
import { isList, isObject } from '../core/message.ts'
import type { Json, JsonObject } from '../core/request.ts'
import type { Field } from './json-scan.ts'
import { toolsIn } from './request-reading.ts'
import type { Fields } from './request-reading.ts'
import { isAppToolSearch, isRunByApp } from './tool-names.ts'

/** Of the request, and those that items of its input add. */
export function toolObjects(fields: Fields): readonly JsonObject[] {
  return [...toolsIn(fields), ...itemsIn(fields.get('input')).flatMap(addedTools)].filter(isObject)
}

/** What nobody here knows may be run by the provider. */
export function isRunByProvider(tool: JsonObject): boolean {
  return typeof tool['type'] !== 'string' || !(isRunByApp(tool['type']) || isAppToolSearch(tool))
}

/**
 * What of these items would be called later on with nobody here seeing it, where the provider keeps them; null: nothing. A later call names
 * the history alone, so neither its hold nor its bound of calls could count such a tool. `tools`: of the request. What the provider found
 * among those is in what it keeps already, and only comes back in a history that the app sends itself.
 */
export function unseenLater(items: Field | undefined, tools: readonly Json[] = []): string | null {
  const types = new Set(tools.map((tool) => (isObject(tool) ? tool['type'] : null)))
  const isUnseen = itemsIn(items).some((item) =>
    addedTools(item).some((tool) => isRunByProvider(tool) && !(item['execution'] === 'server' && types.has(tool['type']))),
  )
  return isUnseen ? UNSEEN_TOOL : null
}
const UNSEEN_TOOL =
  'A tool of the provider that an item adds to the history which the provider keeps (name it in "tools" of each response instead)'

function itemsIn(list: Field | undefined): readonly JsonObject[] {
  return (list?.elements ?? []).map(({ json }) => json).filter(isObject)
}

function addedTools({ type, tools }: JsonObject): readonly JsonObject[] {
  return ADDING_ITEMS.has(type) && isList(tools) ? tools.filter(isObject) : []
}
const ADDING_ITEMS: ReadonlySet<Json | undefined> = new Set(['additional_tools', 'tool_search_output'])
