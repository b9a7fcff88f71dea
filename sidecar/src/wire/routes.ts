/** Which operation a method and path of a provider are: metered, and in which format; free of charge; or not to be metered. */
import { familyOf } from '@farebox/crds/provider-family.ts'
import type { Family } from '@farebox/crds/provider-family.ts'
import { speechWire, transcriptionsWire } from './audio.ts'
import { azureOperation, azureWire } from './azure.ts'
import { completionsWire } from './completions.ts'
import { embeddingsWire } from './embeddings.ts'
import { geminiEmbeddingsWire } from './gemini-embeddings.ts'
import { geminiCall, geminiWire } from './gemini-request.ts'
import { imagesWire } from './images.ts'
import { messagesWire } from './anthropic-messages.ts'
import { chatWire } from './openai-chat.ts'
import { readCounted, readKeptItems } from './responses-request.ts'
import { compactWire, responsesWire } from './responses-wire.ts'
import type { FreeBody, Wire } from './wire.ts'

export type Operation =
  | { readonly kind: 'metered'; readonly wire: Wire }
  /** The provider charges nothing for it: it passes. `read`: once its body is read; absent: as it came. */
  | { readonly kind: 'free'; readonly read?: ReadsFree }
  /** Billed, but not in a way that can be metered as it happens, or not known at all. `name` is for people: `batches`. */
  | { readonly kind: 'ungoverned'; readonly name: string }

type ReadsFree = (body: Buffer) => Promise<FreeBody>

/**
 * `path` is below the upstream's base URL, its query included. A base URL of OpenAI's or Anthropic's kind ends with the version,
 * which clients may repeat: `/v1/messages` and `/messages` are the same there. Formats are shared, prices are not: what one provider
 * gives away, another that speaks as it does may bill.
 */
export function operationOf(provider: string, method: string, path: string): Operation {
  const plain = plainPath(path)
  const [resource = ''] = plain.slice(1).split('/')
  return TABLES[familyOf(provider)](method, plain, provider) ?? ungoverned(resource === '' ? plain : resource)
}

/** The path that the provider gets: without the version that its base URL has already. */
export function providerPath(family: Family, path: string): string {
  const versioned = family === 'openai' || family === 'anthropic'
  return versioned && path.startsWith('/v1/') ? path.slice('/v1'.length) : path
}

/** Null for what it does not know. */
type Table = (method: string, path: string, provider: string) => Operation | null

const FREE = { kind: 'free' } as const satisfies Operation
const metered = (wire: Wire): Operation => ({ kind: 'metered', wire })
const ungoverned = (name: string): Operation => ({ kind: 'ungoverned', name })

const TABLES: Readonly<Record<Family, Table>> = {
  openai: (method, path, provider) => {
    const wire = OPENAI_CALLS.get(path)
    if (method === 'POST' && wire !== undefined) return metered(wire)
    return freeCall(provider === 'openai' ? [...OPENAI_FREE, ...STORED_CHATS] : FREE_ANYWHERE, method, path)
  },
  azure: (method, path) => {
    const operation = azureOperation(path)
    const wire = AZURE_CALLS.get(operation)
    if (method === 'POST' && wire !== undefined) return metered(wire)
    return freeCall(OPENAI_FREE, method, operation) ?? ungoverned(operation.split('/')[1] ?? operation)
  },
  anthropic: (method, path) => {
    if (method === 'POST' && path === '/messages') return metered(messagesWire)
    if (path.startsWith('/messages/batches')) return ungoverned('batches')
    return freeCall(ANTHROPIC_FREE, method, path)
  },
  google: (method, path) => {
    // Who decodes these first reads another model and method.
    if (/%(3a|3f|23|25)/i.test(path)) return null
    const called = geminiCall(path)?.method
    if (method === 'POST' && (called === 'generateContent' || called === 'streamGenerateContent')) return metered(geminiWire)
    if (method === 'POST' && (called === 'embedContent' || called === 'batchEmbedContents')) return metered(geminiEmbeddingsWire)
    if (method === 'POST' && (called === 'countTokens' || called === 'computeTokens')) return FREE
    return freeCall(GOOGLE_FREE, method, path) ?? ungoverned(called ?? path.replace(GOOGLE_VERSION, '').slice(1).split(/[/:]/)[0] ?? path)
  },
}

/** Calls that are metered, by path. */
const OPENAI_CALLS: ReadonlyMap<string, Wire> = new Map([
  ['/chat/completions', chatWire],
  ['/responses', responsesWire],
  ['/responses/compact', compactWire],
  ['/completions', completionsWire],
  ['/embeddings', embeddingsWire],
  ['/images/generations', imagesWire],
  ['/images/edits', imagesWire],
  ['/images/variations', imagesWire],
  ['/audio/speech', speechWire],
  ['/audio/transcriptions', transcriptionsWire],
  ['/audio/translations', transcriptionsWire],
])

const AZURE_CALLS: ReadonlyMap<string, Wire> = new Map([...OPENAI_CALLS].map(([path, wire]) => [path, azureWire(wire)]))

/** Method and path of what costs nothing, and how its body is read where it must be. */
type FreeCalls = readonly (readonly [method: string, path: RegExp, read?: ReadsFree])[]

/** With those who speak OpenAI's format: Mistral bills moderations, and runs a model at `POST /conversations`. */
const FREE_ANYWHERE: FreeCalls = [['GET', /^\/models(\/[^/]+)?$/]]

/** Ids have no more than this in them (LiteLLM's are base64, which some clients encode): who decodes or cuts off anything else reads another path. */
const ID = String.raw`(?:[\w.+=~:-]|%3[dD]|%2[bB])+`
const below = (path: string): RegExp => new RegExp(`^${path.replaceAll('ID', ID)}$`)

const OPENAI_FREE: FreeCalls = [
  ...FREE_ANYWHERE,
  ['POST', /^\/moderations$/],
  ['POST', /^\/responses\/input_tokens$/, readCounted],
  ['POST', below('/responses/ID/cancel')],
  ['GET', below('/responses/(?!compact$)ID(/input_items)?')],
  ['DELETE', below('/responses/(?!compact$)ID')],
  ['POST', below('/conversations(/ID/items)?'), readKeptItems],
  ['POST', below('/conversations/ID')],
  ['GET', below('/conversations/ID(/items(/ID)?)?')],
  ['DELETE', below('/conversations/ID(/items/ID)?')],
]

/** A completion that OpenAI stores; what can be changed of one is its metadata. The list of them all is what every app of the account said. */
const STORED_CHATS: FreeCalls = [
  ['GET', /^\/chat\/completions\/[\w-]+(\/messages)?$/],
  ['POST', /^\/chat\/completions\/[\w-]+$/],
  ['DELETE', /^\/chat\/completions\/[\w-]+$/],
]

const ANTHROPIC_FREE: FreeCalls = [
  ['POST', /^\/messages\/count_tokens$/],
  ['GET', /^\/models(\/[^/]+)?$/],
]

const GOOGLE_FREE: FreeCalls = [['GET', /^(\/v1[a-z0-9]*)?(\/publishers\/google)?\/(models|tunedModels)(\/[^/:]+)?$/]]
const GOOGLE_VERSION = /^\/(upload\/)?v1[a-z0-9]*(?=\/)/

function freeCall(list: FreeCalls, method: string, path: string): Operation | null {
  const found = list.find(([wanted, pattern]) => wanted === method && pattern.test(path))
  if (found === undefined) return null
  const [, , read] = found
  return read === undefined ? FREE : { kind: 'free', read }
}

function plainPath(path: string): string {
  const query = path.indexOf('?')
  return query < 0 ? path : path.slice(0, query)
}
