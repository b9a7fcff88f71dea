/** Checks of tools, of the choice among them, and of the form that the answer must have. */
import { badRequest } from './api-error.ts'
import type { JsonObject } from './fields.ts'
import { arrayAt, booleanAt, isObject, nameAt, objectAt, oneOf, onlyKeys, stringAt } from './fields.ts'
import type { ChatMessage } from './message-checks.ts'

export interface Tool {
  readonly kind: 'function' | 'custom'
  readonly name: string
  /** JSON Schema of a function's arguments; an empty object for a function without any. */
  readonly schema: JsonObject
  /** What fills the window. */
  readonly definition: JsonObject
}

export type ToolChoice =
  | { readonly kind: 'none' | 'auto' | 'required'; readonly among: readonly string[] | null }
  | { readonly kind: 'named'; readonly name: string }

export type AnswerFormat =
  | { readonly kind: 'text' | 'jsonObject' }
  | { readonly kind: 'jsonSchema'; readonly name: string; readonly schema: JsonObject }

const TOOLS_MAX = 128
const SCHEMA_DEPTH_MAX = 32

export function checkTools(value: unknown): readonly Tool[] {
  if (value === undefined) return []
  return arrayAt(value, 'tools', { min: 1, max: TOOLS_MAX }).map((entry, index) => {
    const path = `tools[${index}]`
    const tool = objectAt(entry, path)
    onlyKeys(tool, new Set(['type', 'function', 'custom']), path)
    const kind = oneOf(tool['type'], `${path}.type`, ['function', 'custom'])
    const definition = objectAt(tool[kind], `${path}.${kind}`)
    if (kind === 'function') return functionAt(definition, `${path}.function`)
    onlyKeys(definition, new Set(['name', 'description', 'format']), `${path}.custom`)
    return { kind, name: nameAt(definition['name'], `${path}.custom.name`), schema: {}, definition }
  })
}

/** Tools by their old name. */
export function checkFunctions(value: unknown): readonly Tool[] {
  return arrayAt(value, 'functions', { min: 1, max: TOOLS_MAX }).map((entry, index) =>
    functionAt(objectAt(entry, `functions[${index}]`), `functions[${index}]`),
  )
}

export function checkToolChoice(given: JsonObject, tools: readonly Tool[], legacy: boolean): ToolChoice {
  const field = legacy ? 'function_call' : 'tool_choice'
  if (!legacy && given['function_call'] !== undefined)
    throw badRequest('function_call', null, "Invalid value for 'function_call': only allowed when 'functions' are specified.")
  const value = given[field]
  if (value !== undefined && tools.length === 0)
    throw badRequest(field, null, `Invalid value for '${field}': '${field}' is only allowed when 'tools' are specified.`)
  if (value === undefined) return { kind: 'auto', among: null }
  if (!isObject(value)) return { kind: oneOf(value, field, legacy ? ['none', 'auto'] : ['none', 'auto', 'required']), among: null }
  if (legacy) return named(nameAt(value['name'], 'function_call.name'), tools, field)
  const kind = oneOf(value['type'], 'tool_choice.type', ['function', 'custom', 'allowed_tools'])
  const inner = objectAt(value[kind], `tool_choice.${kind}`)
  if (kind !== 'allowed_tools') return named(nameAt(inner['name'], `tool_choice.${kind}.name`), tools, field)
  const allowed = arrayAt(inner['tools'], 'tool_choice.allowed_tools.tools', { min: 1, max: TOOLS_MAX }).map((entry, index) => {
    const path = `tool_choice.allowed_tools.tools[${index}]`
    const tool = objectAt(entry, path)
    const toolKind = oneOf(tool['type'], `${path}.type`, ['function', 'custom'])
    const name = nameAt(objectAt(tool[toolKind], `${path}.${toolKind}`)['name'], `${path}.${toolKind}.name`)
    named(name, tools, field)
    return name
  })
  return { kind: oneOf(inner['mode'], 'tool_choice.allowed_tools.mode', ['auto', 'required']), among: allowed }
}

export function checkFormat(value: unknown, messages: readonly ChatMessage[]): AnswerFormat {
  if (value === undefined) return { kind: 'text' }
  const format = objectAt(value, 'response_format')
  const type = oneOf(format['type'], 'response_format.type', ['text', 'json_object', 'json_schema'])
  if (type === 'text') return { kind: 'text' }
  if (type === 'json_object') {
    if (messages.some((message) => /json/i.test(message.text))) return { kind: 'jsonObject' }
    throw badRequest(
      'messages',
      null,
      "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
    )
  }
  const path = 'response_format.json_schema'
  const wrapped = objectAt(format['json_schema'], path)
  onlyKeys(wrapped, new Set(['name', 'description', 'schema', 'strict']), path)
  const name = nameAt(wrapped['name'], `${path}.name`)
  const schema = objectAt(wrapped['schema'], `${path}.schema`)
  if (isStrict(wrapped, path)) checkStrict(schema, [], `response_format '${name}'`, 'response_format', null)
  return { kind: 'jsonSchema', name, schema }
}

function functionAt(definition: JsonObject, path: string): Tool {
  onlyKeys(definition, new Set(['name', 'description', 'parameters', 'strict']), path)
  const name = nameAt(definition['name'], `${path}.name`)
  if (definition['description'] !== undefined && definition['description'] !== null)
    stringAt(definition['description'], `${path}.description`)
  const parameters = definition['parameters']
  if (parameters === undefined || parameters === null) return { kind: 'function', name, schema: {}, definition }
  const schema = objectAt(parameters, `${path}.parameters`)
  if (Object.keys(schema).length > 0 && schema['type'] !== 'object')
    throw badRequest(
      `${path}.parameters`,
      'invalid_function_parameters',
      `Invalid schema for function '${name}': schema must be a JSON Schema of 'type: "object"', got 'type: ${JSON.stringify(schema['type'] ?? 'None')}'.`,
    )
  if (isStrict(definition, path)) checkStrict(schema, [], `function '${name}'`, `${path}.parameters`, 'invalid_function_parameters')
  return { kind: 'function', name, schema, definition }
}

/** What a strict schema must say of each object: no other properties, and every property required. */
function checkStrict(schema: unknown, at: readonly string[], whose: string, param: string, code: string | null): void {
  if (!isObject(schema) || at.length > SCHEMA_DEPTH_MAX) return
  const fail = (what: string): Error =>
    badRequest(param, code, `Invalid schema for ${whose}: In context=(${at.map((step) => `'${step}'`).join(', ')}), ${what}`)
  const properties = schema['properties']
  if (schema['type'] === 'object' || isObject(properties)) {
    if (schema['additionalProperties'] !== false) throw fail("'additionalProperties' is required to be supplied and to be false.")
    const required = Array.isArray(schema['required']) ? schema['required'] : []
    for (const key of Object.keys(isObject(properties) ? properties : {})) {
      if (!required.includes(key))
        throw fail(`'required' is required to be supplied and to be an array including every key in properties. Missing '${key}'.`)
    }
  }
  for (const group of ['properties', '$defs', 'definitions']) {
    const members = schema[group]
    if (isObject(members)) for (const key in members) checkStrict(members[key], [...at, group, key], whose, param, code)
  }
  checkStrict(schema['items'], [...at, 'items'], whose, param, code)
  const any = schema['anyOf']
  if (Array.isArray(any))
    for (const [index, member] of any.entries()) checkStrict(member, [...at, 'anyOf', String(index)], whose, param, code)
}

function isStrict(object: JsonObject, path: string): boolean {
  return object['strict'] !== undefined && object['strict'] !== null && booleanAt(object['strict'], `${path}.strict`)
}

function named(name: string, tools: readonly Tool[], field: string): ToolChoice {
  if (tools.some((tool) => tool.name === name)) return { kind: 'named', name }
  throw badRequest(field, null, `Tool choice '${name}' not found in 'tools' parameter.`)
}
