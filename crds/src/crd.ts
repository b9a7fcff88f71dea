/** The CustomResourceDefinitions of our kinds, as a cluster takes them. Pure: `generate.ts` writes them. */
import { KINDS } from './check.ts'
import type { Kind } from './check.ts'
import { API_GROUP, API_VERSION } from './fields.ts'
import { structuralSchema } from './structural.ts'
import type { StructuralSchema } from './structural.ts'

/** What people call a kind, and what `kubectl get` shows of it. */
export interface KindNames {
  readonly plural: string
  readonly singular: string
  readonly shortName: string
  /** One line: what the kind is for. */
  readonly about: string
  readonly columns: readonly PrinterColumn[]
}

interface PrinterColumn {
  readonly name: string
  readonly type: 'string' | 'integer' | 'date'
  readonly jsonPath: string
  /** 1 and above: only with `-o wide`. */
  readonly priority?: number
  readonly description?: string
}

const READY: PrinterColumn = { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' }
const REASON: PrinterColumn = { name: 'Reason', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].reason' }
const AGE: PrinterColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }

export const KIND_NAMES: Readonly<Record<Kind, KindNames>> = {
  PricingTier: {
    plural: 'pricingtiers',
    singular: 'pricingtier',
    shortName: 'ptier',
    about: 'What a plan sells for, what it must leave, and what its conversations may do. Cluster-scoped.',
    columns: [
      { name: 'Model', type: 'string', jsonPath: '.spec.pricing.model' },
      { name: 'Price', type: 'string', jsonPath: '.spec.pricing.price' },
      { name: 'Currency', type: 'string', jsonPath: '.spec.currency' },
      {
        name: 'Margin',
        type: 'integer',
        jsonPath: '.spec.unitEconomics.targetGrossMarginPercent',
        description: 'Gross margin that the plan wants, in percent.',
      },
      {
        name: 'Realised',
        type: 'integer',
        jsonPath: '.status.margin.realisedPercent',
        description: 'Gross margin of what was sold so far, in percent.',
      },
      {
        name: 'Cap',
        type: 'string',
        jsonPath: '.status.derived.perConversation',
        description: 'Cap of one conversation, in the currency of the plan.',
      },
      { name: 'UserCap', type: 'string', jsonPath: '.status.derived.perUser', priority: 1, description: 'Cap of a user and period.' },
      {
        name: 'Expected',
        type: 'string',
        jsonPath: '.status.derived.targetPerConversation',
        priority: 1,
        description: 'What a conversation costs when the plan goes as expected.',
      },
      { name: 'Budgets', type: 'integer', jsonPath: '.status.boundBudgets', description: 'ConversationBudgets that may use it.' },
      READY,
      REASON,
      AGE,
    ],
  },
  ConversationBudget: {
    plural: 'conversationbudgets',
    singular: 'conversationbudget',
    shortName: 'cbudget',
    about: 'Binds workloads of its namespace to plans. `selector` and `tier.default` suffice. Namespaced.',
    columns: [
      { name: 'Tier', type: 'string', jsonPath: '.spec.tier.default', description: 'Plan of conversations that claim none.' },
      { name: 'Also', type: 'string', jsonPath: '.spec.tier.allowed', priority: 1, description: 'Plans that a claim may choose.' },
      { name: 'Mode', type: 'string', jsonPath: '.spec.mode' },
      {
        name: 'Conversations',
        type: 'integer',
        jsonPath: '.status.conversations.total',
        description: 'Those of its plans in this namespace with a turn in the last 35 days.',
      },
      {
        name: 'Spent',
        type: 'string',
        jsonPath: '.status.spend.spent',
        description:
          'What they and lone calls cost so far, in US dollars, by the pods of whichever budget: budgets that share a plan show the same, so this column is no sum.',
      },
      { name: 'Today', type: 'string', jsonPath: '.status.spend.today', priority: 1, description: 'Of that, since midnight UTC.' },
      { name: 'Held', type: 'string', jsonPath: '.status.spend.held', priority: 1, description: 'Kept for calls under way.' },
      {
        name: 'LimitUsed',
        type: 'integer',
        jsonPath: '.status.limits[0].usedPercent',
        priority: 1,
        description: 'Of the limit that is used most, in percent.',
      },
      { name: 'Dearest', type: 'string', jsonPath: '.status.cost.max', priority: 1, description: 'What the dearest of them cost.' },
      {
        name: 'At100',
        type: 'integer',
        jsonPath: '.status.alerts.100',
        description: 'Conversations and lone calls that came to the end of their budget.',
      },
      { name: 'Matched', type: 'integer', jsonPath: '.status.workloads.matched', priority: 1, description: 'Pods that it governs.' },
      { name: 'Injected', type: 'integer', jsonPath: '.status.workloads.injected', description: 'Of them, those with a sidecar.' },
      {
        name: 'InSync',
        type: 'integer',
        jsonPath: '.status.workloads.inSync',
        priority: 1,
        description: 'Sidecars that have the config in force.',
      },
      {
        name: 'Outdated',
        type: 'integer',
        jsonPath: '.status.workloads.outdated',
        priority: 1,
        description: 'Pods to be replaced when it suits.',
      },
      { name: 'UnknownModels', type: 'string', jsonPath: '.spec.onUnknownModel', priority: 1 },
      { name: 'Config', type: 'string', jsonPath: '.status.config.hash', priority: 1, description: 'Hash of the config in force.' },
      READY,
      REASON,
      AGE,
    ],
  },
  PriceBook: {
    plural: 'pricebooks',
    singular: 'pricebook',
    shortName: 'pbook',
    about: 'Prices of models and rates of exchange, on top of the catalogue that is shipped. Cluster-scoped.',
    columns: [{ name: 'Prices', type: 'integer', jsonPath: '.status.entries', description: 'Prices that are in use.' }, READY, REASON, AGE],
  },
}

/** The schema of a whole object, as it is once it was read. `metadata` is the API server's own. */
export function schemaOf(kind: Kind): StructuralSchema {
  const { spec, status } = KINDS[kind].schema.shape
  return {
    type: 'object',
    description: KIND_NAMES[kind].about,
    required: ['spec'],
    properties: {
      apiVersion: { type: 'string', description: `\`${API_VERSION}\`.` },
      kind: { type: 'string', description: `\`${kind}\`.` },
      metadata: { type: 'object' },
      spec: structuralSchema(spec, 'spec'),
      status: structuralSchema(status, 'status'),
    },
  }
}

/**
 * Elements of lists without their defaults. Tools that replace a list when they merge (`kubectl apply`, the diff of Argo CD) would find
 * what the API server fills in there to differ from the manifest, for ever; we fill it in as we read. So we do with lists of choices: the API
 * server would keep one in the object as it was, and what a later version chooses would never reach it. The description tells what we fill in.
 */
export function servedSchema(node: StructuralSchema, isInList: boolean = false): StructuralSchema {
  const { default: filledIn, ...bare } = node
  const { properties, items, description } = node
  return {
    ...(isInList || isChosen(node) ? { ...bare, ...(isNothing(filledIn) ? {} : { description: toldWith(description, filledIn) }) } : node),
    ...(properties === undefined
      ? {}
      : { properties: Object.fromEntries(Object.entries(properties).map(([name, field]) => [name, servedSchema(field, isInList)])) }),
    ...(items === undefined ? {} : { items: servedSchema(items, true) }),
  }
}

/** What goes without saying where a field is absent: no default at all, an empty list, an object of which no field is set. */
function isNothing(filledIn: unknown): boolean {
  return filledIn === undefined || (typeof filledIn === 'object' && filledIn !== null && Object.keys(filledIn).length === 0)
}

function toldWith(description: string | undefined, filledIn: unknown): string {
  const values = Array.isArray(filledIn) ? filledIn : [filledIn]
  return `${description === undefined ? '' : `${description} `}Absent: ${values.map((value) => `\`${String(value)}\``).join(', ')}.`
}

/** A list of choices, some of which are made by default. */
export function isChosen({ default: filledIn, items }: StructuralSchema): boolean {
  return Array.isArray(filledIn) && filledIn.length > 0 && items?.enum !== undefined
}

/** The definition, ready to be written as YAML. */
export function crdOf(kind: Kind): object {
  const { plural, singular, shortName, columns } = KIND_NAMES[kind]
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${API_GROUP}` },
    spec: {
      group: API_GROUP,
      scope: KINDS[kind].scope,
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames: [shortName], categories: ['farebox', 'ai'] },
      versions: [
        {
          name: API_VERSION.slice(API_GROUP.length + 1),
          served: true,
          storage: true,
          schema: { openAPIV3Schema: servedSchema(schemaOf(kind)) },
          subresources: { status: {} },
          additionalPrinterColumns: columns,
        },
      ],
    },
  }
}
