import assert from 'node:assert/strict'
import { test } from 'node:test'
import { holds } from './cel.ts'
import { checkObject, KINDS } from './check.ts'
import type { Kind } from './check.ts'
import { crdOf, isChosen, KIND_NAMES, schemaOf, servedSchema } from './crd.ts'
import { isTransition } from './rules.ts'
import { isRecord } from './schema-walk.ts'
import type { StructuralSchema } from './structural.ts'

const ALL_KINDS = Object.keys(KINDS).filter((kind): kind is Kind => Object.hasOwn(KINDS, kind))

interface Place {
  readonly path: string
  readonly node: StructuralSchema
}

/** Every node below `metadata`'s siblings; `metadata` is the API server's own. */
function placesIn(node: StructuralSchema, path: string): Place[] {
  return [
    { path, node },
    ...Object.entries(node.properties ?? {})
      .filter(([name]) => path.includes('.') || name !== 'metadata')
      .flatMap(([name, field]) => placesIn(field, `${path}.${name}`)),
    ...(node.items === undefined ? [] : placesIn(node.items, `${path}[]`)),
    ...(node.additionalProperties === undefined ? [] : placesIn(node.additionalProperties, `${path}.*`)),
  ]
}
const PLACES = ALL_KINDS.flatMap((kind) => placesIn(schemaOf(kind), kind))
/** Below `spec` and `status`: apiVersion and kind are checked by the API server itself. */
const OWN_PLACES = PLACES.filter(({ path }) => /\.(spec|status)/.test(path))

test('the three kinds have their names, scope, category and status subresource', () => {
  const outline = ALL_KINDS.map((kind) => {
    const crd: unknown = JSON.parse(JSON.stringify(crdOf(kind)))
    assert.ok(isRecord(crd) && isRecord(crd['metadata']) && isRecord(crd['spec']))
    const { group, scope, names, versions } = crd['spec']
    assert.ok(isRecord(names) && Array.isArray(versions) && isRecord(versions[0]))
    assert.equal(crd['metadata']['name'], `${String(names['plural'])}.${String(group)}`)
    assert.deepEqual(names['categories'], ['farebox', 'ai'])
    const { name, served, storage, subresources } = versions[0]
    assert.deepEqual([versions.length, name, served, storage, subresources], [1, 'v1alpha1', true, true, { status: {} }])
    return [group, names['kind'], scope, names['plural'], names['singular'], names['shortNames']]
  })
  assert.deepEqual(outline, [
    ['farebox.dev', 'PricingTier', 'Cluster', 'pricingtiers', 'pricingtier', ['ptier']],
    ['farebox.dev', 'ConversationBudget', 'Namespaced', 'conversationbudgets', 'conversationbudget', ['cbudget']],
    ['farebox.dev', 'PriceBook', 'Cluster', 'pricebooks', 'pricebook', ['pbook']],
  ])
})

test('every node has one type of a structural schema, and no keyword that the API server refuses', () => {
  const keywords = new Set([
    'type',
    'description',
    'format',
    'enum',
    'pattern',
    'minLength',
    'maxLength',
    'minimum',
    'maximum',
    'minItems',
    'maxItems',
    'maxProperties',
    'default',
    'properties',
    'required',
    'additionalProperties',
    'items',
    'x-kubernetes-list-type',
    'x-kubernetes-list-map-keys',
    'x-kubernetes-validations',
  ])
  for (const { path, node } of PLACES) {
    assert.ok(['object', 'array', 'string', 'integer', 'boolean'].includes(node.type), `${path} has the type ${node.type}`)
    for (const [keyword, value] of Object.entries(node)) {
      assert.ok(keywords.has(keyword), `${path} has ${keyword}`)
      assert.ok(value !== null && value !== undefined, `${path}.${keyword} has a value`)
    }
    assert.ok(node.properties === undefined || node.additionalProperties === undefined, `${path} has fields and further ones`)
  }
})

test('every number, text, list and map is bounded, so that the cost of a rule is', () => {
  for (const { path, node } of OWN_PLACES) {
    if (node.type === 'integer') assert.ok(node.minimum !== undefined && node.maximum !== undefined, `${path} has a minimum and a maximum`)
    if (node.type === 'string') assert.ok(node.enum !== undefined || node.maxLength !== undefined, `${path} has a maxLength or choices`)
    if (node.type === 'array') assert.ok(node.maxItems !== undefined && node.items !== undefined, `${path} has maxItems`)
    if (node.additionalProperties !== undefined) assert.ok(node.maxProperties !== undefined, `${path} has maxProperties`)
    if (node.type === 'object') assert.ok(node.properties !== undefined || node.additionalProperties !== undefined, `${path} has fields`)
  }
  assert.ok(OWN_PLACES.length > 150, `${OWN_PLACES.length} nodes were seen`)
})

test('every field says what it is', () => {
  const silent = OWN_PLACES.filter(
    ({ path, node }) => /\.\w+$/.test(path) && !/\.(spec|status)$/.test(path) && node.description === undefined,
  )
  assert.deepEqual(
    silent.map(({ path }) => path),
    [],
  )
})

test('patterns are anchored and can be read by RE2', () => {
  for (const { path, node } of PLACES) {
    if (node.pattern === undefined) continue
    assert.match(node.pattern, /^\^.*\$$/, path)
    assert.doesNotMatch(node.pattern, /\(\?|\\[1-9]|\\k</, path)
  }
})

test('list keys are required fields, sets hold scalars, and every list says how it merges', () => {
  for (const { path, node } of PLACES) {
    if (node.items === undefined) continue
    const type = node['x-kubernetes-list-type']
    assert.ok(type !== undefined, path)
    if (type === 'set') assert.ok(node.items.type !== 'object' && node.items.type !== 'array', path)
    const keys = node['x-kubernetes-list-map-keys'] ?? []
    assert.equal(keys.length > 0, type === 'map', path)
    for (const key of keys) assert.ok(node.items.required?.includes(key), `${path}[].${key} is required`)
  }
})

test('rules name fields that exist, and have messages of one line', () => {
  for (const { path, node } of PLACES) {
    for (const { rule, message, fieldPath } of node['x-kubernetes-validations'] ?? []) {
      assert.match(message, /^\S.*\S$/, path)
      assert.ok(message.length <= 2048 && rule.trim() !== '', path)
      assert.doesNotMatch(rule, /quantity\(|isSorted\(|\?\.|\burl\(/, `${path}: only CEL that runs here too`)
      if (fieldPath !== undefined) assert.ok(fieldAt(node, fieldPath) !== null, `${path} has ${fieldPath}`)
    }
  }
})

/** Fields of `spec` that the API server fills in: those of the first version, and no more. */
const FILLED_IN: Readonly<Record<Kind, readonly string[]>> = {
  PricingTier: [
    'currency',
    'pricing.period.timeZone',
    'pricing.period.anchorDay',
    'unitEconomics.otherCost',
    'unitEconomics.heavyUserTimesMedian',
    'budget',
    'budget.allowBelowMargin',
    'context',
    'context.overflow',
    'context.keepRecentTurns',
    'context.summarizeAfterPercent',
    'models',
    'models.allow',
    'models.downgrades',
    'alerts',
    'ladder',
    'sessions',
    'sessions.resetAt',
    'sessions.recap',
    'sessions.maxResets',
    'sessions.memory.retention',
    'notices',
    'notices.mode',
    'notices.texts',
    'notices.defaultLocale',
  ],
  ConversationBudget: [
    'selector.matchLabels',
    'selector.matchExpressions',
    'tier.allowed',
    'tier.claim.header',
    'mode',
    'identity',
    'identity.headers',
    'identity.fallback',
    'identity.scope',
    'upstreams',
    'limits',
    'existingConversations',
    'contractMaxAge',
    'onUnknownModel',
    'onDisconnect',
    'ungoverned',
    'onStoreFailure',
    'onStoreFailure.action',
    'onStale',
    'onStale.after',
    'onStale.action',
    'store',
    'store.kind',
    'injection',
    'injection.mode',
    'injection.rollout',
    'injection.excludeContainers',
    'retrieval',
    'retrieval.toolNames',
    'retrieval.tags',
    'taskBoundary',
    'taskBoundary.toolNames',
    'resolution',
    'resolution.toolNames',
    'resolution.reopenWindow',
    'hostedTools',
  ],
  PriceBook: ['entries', 'exchangeRates'],
}
test('no field that a kind gains is filled in by the API server', () => {
  for (const kind of ALL_KINDS) {
    const { spec } = servedSchema(schemaOf(kind)).properties ?? {}
    assert.ok(spec !== undefined)
    const filledIn = placesIn(spec, 'spec').flatMap(({ path, node }) => (node.default === undefined ? [] : [path.replace(/^spec\.?/, '')]))
    assert.deepEqual(
      filledIn.filter((path) => !FILLED_IN[kind].includes(path)),
      [],
      `${kind}: must have no default. The API server would write it into every object, nobody could take it out, and the operator of before, ` +
        'as `helm rollback` brings it back, would find each of them Invalid. Make it optional, and fill in what absent means where it is read',
    )
    assert.deepEqual(
      FILLED_IN[kind].filter((path) => !filledIn.includes(path)),
      [],
      `${kind}: is filled in no more`,
    )
  }
})

test('elements of lists are served without defaults, and so are lists of choices; rules on them do without', () => {
  const chosen = ALL_KINDS.flatMap((kind) => placesIn(schemaOf(kind), kind).filter(({ node }) => isChosen(node)))
  assert.deepEqual(
    chosen.map(({ path }) => path),
    ['ConversationBudget.spec.identity.carriers', 'ConversationBudget.spec.identity.userCarriers'],
  )
  for (const kind of ALL_KINDS) {
    const read = placesIn(schemaOf(kind), kind)
    const served = placesIn(servedSchema(schemaOf(kind)), kind)
    assert.deepEqual(
      served.map(({ path }) => path),
      read.map(({ path }) => path),
    )
    for (const [index, { path, node }] of served.entries())
      assert.deepEqual(
        node.default,
        path.includes('[]') || chosen.some((list) => list.path === path) ? undefined : read[index]?.node.default,
        path,
      )
  }
})

test('a default that the API server is not told of is in the description, so that `kubectl explain` tells it', () => {
  const toldOf = ALL_KINDS.flatMap((kind) => {
    const served = placesIn(servedSchema(schemaOf(kind)), kind)
    return placesIn(schemaOf(kind), kind).flatMap(({ path, node: { default: filledIn, description = '' } }, index) => {
      const told = served[index]?.node
      if (told?.default !== undefined || filledIn === undefined || ['[]', '{}'].includes(JSON.stringify(filledIn))) {
        assert.equal(told?.description ?? '', description, `${path} says nothing more`)
        return []
      }
      const values = Array.isArray(filledIn) ? filledIn : [filledIn]
      assert.equal(told?.description, `${description} Absent: ${values.map((value) => `\`${value}\``).join(', ')}.`)
      return [path]
    })
  })
  assert.deepEqual(toldOf, [
    'ConversationBudget.spec.identity.carriers',
    'ConversationBudget.spec.identity.userCarriers',
    'ConversationBudget.spec.upstreams[].provider',
    'ConversationBudget.spec.upstreams[].injectUsage',
    'ConversationBudget.spec.limits[].period.timeZone',
    'ConversationBudget.spec.limits[].period.anchorDay',
  ])
})

test('what a description says of an absent field in a list is what is filled in as a manifest is read', () => {
  const read = checkObject({
    apiVersion: 'farebox.dev/v1alpha1',
    kind: 'ConversationBudget',
    metadata: { name: 'desk', namespace: 'support' },
    spec: {
      selector: { matchLabels: { app: 'desk' } },
      tier: { default: 'pro' },
      upstreams: [{ name: 'own', baseURL: 'https://models.example/v1' }],
      limits: [{ amount: '50.00', period: { unit: 'Month' } }],
    },
  })
  assert.ok(read.status === 'ok' && read.value.kind === 'ConversationBudget')
  const { identity, upstreams, limits } = read.value.spec
  const budget = servedSchema(schemaOf('ConversationBudget'))
  const filledIn: readonly (readonly [path: string, value: unknown])[] = [
    ['.spec.identity.carriers', identity.carriers],
    ['.spec.identity.userCarriers', identity.userCarriers],
    ['.spec.upstreams[].provider', upstreams[0]?.provider],
    ['.spec.upstreams[].injectUsage', upstreams[0]?.injectUsage],
    ['.spec.limits[].period.timeZone', limits[0]?.period.timeZone],
    ['.spec.limits[].period.anchorDay', limits[0]?.period.anchorDay],
  ]
  for (const [path, value] of filledIn) {
    const [, told = ''] = / Absent: (.*)[.]$/.exec(fieldAt(budget, path)?.description ?? '') ?? []
    assert.deepEqual(told.replaceAll('`', '').split(', '), [value].flat().map(String), path)
  }
})

test('defaults hold by the rules beside them as they are written, before the defaults below them are filled in', () => {
  for (const { path, node } of PLACES) {
    if (node.default === undefined) continue
    for (const rule of node['x-kubernetes-validations'] ?? []) {
      if (!isTransition(rule)) assert.ok(holds(rule, node.default), `${path}: ${rule.rule}`)
    }
  }
})

test('printer columns show fields that exist', () => {
  for (const kind of ALL_KINDS) {
    for (const { name, jsonPath, type } of KIND_NAMES[kind].columns) {
      if (jsonPath.startsWith('.metadata.')) continue
      const field = fieldAt(schemaOf(kind), jsonPath.replace(/\[(?:\?[^\]]*|\d+)\]/, '[]'))
      assert.ok(field !== null, `${kind}: ${name} shows ${jsonPath}`)
      assert.equal(field.type === 'integer' ? 'integer' : 'string', type, `${kind}: ${name}`)
    }
  }
})

/** `.pricing.period`, `.conditions[].status`. */
function fieldAt(node: StructuralSchema, path: string): StructuralSchema | null {
  let at: StructuralSchema | null = node
  for (const part of path.match(/\[\]|[^.[\]]+/g) ?? [])
    at = (part === '[]' ? at?.items : (at?.properties?.[part] ?? at?.additionalProperties)) ?? null
  return at
}
