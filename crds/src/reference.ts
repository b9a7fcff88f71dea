/** The reference page of a kind, in Markdown: each field with its type, default, bounds and meaning, and the rules. Pure. */
import type { Kind } from './check.ts'
import { KINDS } from './check.ts'
import { isChosen, KIND_NAMES, schemaOf } from './crd.ts'
import { API_VERSION } from './fields.ts'
import { isRecord } from './schema-walk.ts'
import type { StructuralSchema } from './structural.ts'

export function referencePage(kind: Kind): string {
  const { about, plural, shortName } = KIND_NAMES[kind]
  const { properties = {} } = schemaOf(kind)
  const { spec, status } = properties
  if (spec === undefined || status === undefined) throw new TypeError(`${kind} must have a spec and a status`)
  return [
    `# ${kind}`,
    GENERATED,
    about,
    `\`apiVersion: ${API_VERSION}\`, \`kind: ${kind}\`; ${KINDS[kind].scope === 'Cluster' ? 'belongs to no namespace' : 'belongs to a namespace'}. \`kubectl get ${shortName}\` (or \`${plural}\`) shows ${columnsShown(kind)}.`,
    '## spec',
    `A field with neither a default nor the word *required* may be left out. Amounts are decimals in quotes, never bare numbers. A field that is not listed is refused by \`farebox lint\` and by \`kubectl apply\`. \`kubectl get\` shows defaults but for those of ${untold(spec)}, which hold all the same: \`kubectl explain\` tells them.`,
    fieldTable(rowsBelow(spec, 'spec')),
    '## Rules',
    'Checked by the API server and by `farebox lint`, from the same text ([CEL](https://kubernetes.io/docs/reference/using-api/cel/)); `self` is the field in the first column.',
    ruleTable(rulesBelow(spec, 'spec')),
    '## status',
    'Written by Farebox.',
    fieldTable(rowsBelow(status, 'status')),
  ]
    .join('\n\n')
    .concat('\n')
}

/** The page that lists the others. */
export function referenceIndex(): string {
  const kinds = Object.keys(KINDS).filter((kind): kind is Kind => Object.hasOwn(KINDS, kind))
  return [
    '# Reference',
    GENERATED,
    'The kinds of `farebox.dev/v1alpha1`. Their definitions, to be applied to a cluster, are in [crds/generated](../../crds/generated).',
    table(
      ['kind', 'short name', 'what it is'],
      kinds.map((kind) => [`[${kind}](${pageName(kind)})`, `\`${KIND_NAMES[kind].shortName}\``, KIND_NAMES[kind].about]),
    ),
  ]
    .join('\n\n')
    .concat('\n')
}

/** `PricingTier` -> `pricing-tier.md`. */
export function pageName(kind: Kind): string {
  return `${kind.replace(/(?<=[a-z])[A-Z]/g, (letter) => `-${letter}`).toLowerCase()}.md`
}

const GENERATED = '<!-- Generated from crds/src by `make generate`: edit the schemas there. -->'

type Row = readonly string[]

function fieldTable(rows: readonly Row[]): string {
  return table(['field', 'type', 'default', 'bounds', 'meaning'], rows)
}

function ruleTable(rows: readonly Row[]): string {
  return table(['field', 'what must be', 'CEL'], rows)
}

function table(head: Row, rows: readonly Row[]): string {
  const line = (cells: Row): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Whose defaults the API server is not told of. */
function untold(spec: StructuralSchema): string {
  const chosen = fieldsBelow(spec, 'spec').filter(({ field }) => isChosen(field))
  const all = ['fields in a list (`[]`)', ...chosen.map(({ path }) => `of \`${path}\``)]
  return all.length === 1 ? all.join('') : `${all.slice(0, -1).join(', ')} and ${all.at(-1)}`
}

function rowsBelow(node: StructuralSchema, path: string): Row[] {
  return fieldsBelow(node, path).map(({ path: fieldPath, field, isRequired }) => [
    `\`${fieldPath}\``,
    typeText(field),
    isRequired ? '*required*' : defaultText(field.default),
    boundsText(field),
    field.description ?? '',
  ])
}

interface Field {
  readonly path: string
  readonly field: StructuralSchema
  readonly isRequired: boolean
}

/** Each field below a node, parents first; fields of a list's elements are at `ladder[].rung`. */
function fieldsBelow(node: StructuralSchema, path: string): Field[] {
  if (node.items !== undefined) return fieldsBelow(node.items, `${path}[]`)
  return Object.entries(node.properties ?? {}).flatMap(([name, field]) => {
    const fieldPath = `${path}.${name}`
    const isRequired = node.required?.includes(name) === true
    return [{ path: fieldPath, field, isRequired }, ...fieldsBelow(field, fieldPath)]
  })
}

function rulesBelow(node: StructuralSchema, path: string): Row[] {
  const own = (node['x-kubernetes-validations'] ?? []).map(({ rule, message, fieldPath }) => [
    `\`${path}\``,
    `${fieldPath === undefined ? '' : `\`${fieldPath.slice(1)}\` `}${message}`,
    `\`${rule}\``,
  ])
  const below = [
    ...Object.entries(node.properties ?? {}).flatMap(([name, field]) => rulesBelow(field, `${path}.${name}`)),
    ...(node.items === undefined ? [] : rulesBelow(node.items, `${path}[]`)),
  ]
  return [...own, ...below]
}

function typeText(node: StructuralSchema): string {
  if (node.enum !== undefined) return 'choice'
  if (node.items !== undefined) return `list of ${PLURALS[plainType(node.items)]}`
  if (node.additionalProperties !== undefined) return `map of ${PLURALS[plainType(node.additionalProperties)]}`
  return plainType(node)
}

type PlainType = 'choice' | 'date' | 'text' | 'number' | 'object' | 'list' | 'boolean'
const PLURALS: Readonly<Record<PlainType, string>> = {
  choice: 'choices',
  date: 'dates',
  text: 'texts',
  number: 'numbers',
  object: 'objects',
  list: 'lists',
  boolean: 'booleans',
}

function plainType(node: StructuralSchema): PlainType {
  if (node.enum !== undefined) return 'choice'
  if (node.format === 'date') return 'date'
  switch (node.type) {
    case 'integer':
      return 'number'
    case 'string':
      return 'text'
    case 'array':
      return 'list'
    case 'object':
    case 'boolean':
      return node.type
  }
}

/** Of an object, `{}` stands for the defaults of its fields, which are listed below it. */
function defaultText(value: unknown): string {
  if (value === undefined || (isRecord(value) && Object.keys(value).length === 0)) return ''
  if (Array.isArray(value) && value.some(isRecord)) return value.map((element) => `\`${flowText(element)}\``).join('<br>')
  return `\`${flowText(value)}\``
}

/** As one would write it in YAML, on one line. */
function flowText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(flowText).join(', ')}]`
  if (isRecord(value))
    return `{ ${Object.entries(value)
      .map(([key, part]) => `${key}: ${flowText(part)}`)
      .join(', ')} }`
  return typeof value === 'string' && /^[A-Za-z]/.test(value) ? value : JSON.stringify(value)
}

function boundsText(node: StructuralSchema): string {
  const of = node.items ?? node.additionalProperties
  const own = ownBounds(node)
  const parts = of === undefined || of.type === 'object' ? own : [...own, ...ownBounds(of).map((bound) => `each ${bound}`)]
  return parts.join('; ')
}

function ownBounds(node: StructuralSchema): string[] {
  const { type, minimum, maximum, minLength = 0, maxLength, maxItems, maxProperties, pattern } = node
  if (node.enum !== undefined) return [node.enum.map((value) => `\`${value}\``).join(', ')]
  if (type === 'integer') return [maximum === Number.MAX_SAFE_INTEGER ? `from ${minimum}` : `${minimum} to ${maximum}`]
  if (node.format === 'date') return ['`YYYY-MM-DD`']
  if (type === 'string')
    return [
      ...(pattern === undefined ? [] : [`\`${pattern}\``]),
      minLength > 0 ? `${minLength} to ${maxLength} characters` : `at most ${maxLength} characters`,
    ]
  if (type === 'array')
    return [`at most ${maxItems} items${node['x-kubernetes-list-type'] === 'set' ? ', none twice' : ''}${keyText(node)}`]
  return maxProperties === undefined ? [] : [`at most ${maxProperties} entries`]
}

function keyText(node: StructuralSchema): string {
  const [key] = node['x-kubernetes-list-map-keys'] ?? []
  return key === undefined ? '' : `, told apart by \`${key}\``
}

function columnsShown(kind: Kind): string {
  const shown = KIND_NAMES[kind].columns.filter(({ priority = 0 }) => priority === 0).map(({ name }) => name.toLowerCase())
  return `${shown.slice(0, -1).join(', ')} and ${shown.at(-1) ?? ''}`
}
