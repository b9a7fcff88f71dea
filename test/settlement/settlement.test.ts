/** Golden usages of every provider, priced twice: by the product's own path, and by the oracle. They must agree to the nano-dollar. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { loadCatalogue } from '@farebox/crds/catalogue.ts'
import { PriceEntrySchema } from '@farebox/crds/price-entry.ts'
import { createPriceList } from '@farebox/crds/price-list.ts'
import type { PricedModel, PriceList } from '@farebox/crds/prices.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import { usageOf } from '@farebox/crds/usage.ts'
import { costOfAnswer } from '@farebox/sidecar/core/cost.ts'
import type { JsonObject } from '@farebox/sidecar/core/request.ts'
import { mergeAnthropicUsage, readAnthropicUsage, readServed } from '@farebox/sidecar/wire/anthropic-usage.ts'
import { readSpeechUsage, readTranscriptionUsage, spokenCharacters } from '@farebox/sidecar/wire/audio-usage.ts'
import { readGeminiTier, readGeminiUsage } from '@farebox/sidecar/wire/gemini-usage.ts'
import { readImagesUsage } from '@farebox/sidecar/wire/images-usage.ts'
import { readUsage } from '@farebox/sidecar/wire/openai-usage.ts'
import { readResponsesUsage } from '@farebox/sidecar/wire/responses-usage.ts'
import type { UsageReading } from '@farebox/sidecar/wire/usage-reading.ts'
import { calcPrice, extractUsage, findProvider } from '@pydantic/genai-prices'
import { caseFiles } from './cases.ts'
import { costInUsd, WIRES } from './oracle.ts'
import type { OwnPrices, SettlementCase } from './oracle.ts'

const CATALOGUE = loadCatalogue()
const CASES_LEAST = 300
const FILES = [...caseFiles().values()]
const ALL = FILES.flatMap(({ provider, own, cases }) => cases.map((each) => ({ provider, own, each })))

for (const { provider, own, cases } of FILES) {
  describe(`settlement of ${provider}`, () => {
    const list = createPriceList(own === undefined ? [] : bookOf(provider, own), CATALOGUE)
    for (const each of cases) {
      test(each.name, () => {
        assert.equal(costInUsd(provider, each, own), each.expectedUsd, 'the oracle')
        assert.equal(settledNanos(list, provider, each), parseUsd(each.expectedUsd), 'the product')
      })
    }
  })
}

test('there are cases of every provider and wire, and none is there twice', () => {
  assert.ok(ALL.length >= CASES_LEAST, `${ALL.length} cases`)
  const names = ALL.map(({ provider, each }) => `${provider}: ${each.name}`)
  assert.equal(new Set(names).size, names.length)
  const providers = new Set(ALL.map(({ provider }) => provider))
  for (const { provider } of CATALOGUE.models) assert.ok(providers.has(provider), provider)
  const wires = new Set(ALL.map(({ each }) => each.wire))
  for (const wire of WIRES) assert.ok(wires.has(wire), wire)
  const contents = ALL.map(({ provider, each }) => JSON.stringify([provider, each.model, each.atDay, each.payload, each.spoken]))
  assert.equal(new Set(contents).size, contents.length)
})

test('what somebody else makes of the same answers agrees, wherever they price all that was used', () => {
  let agreed = 0
  for (const { provider, each } of ALL) {
    const theirs = theirNanos(provider, each)
    if (theirs === null) continue
    const ours = Number(parseUsd(each.expectedUsd))
    const isSame = ours - theirs > -0.01 && ours - theirs < 1.01
    if (isSame) agreed += 1
    assert.ok(
      isSame !== (each.differs !== undefined) || (!isSame && isBeyondThem(provider, each)),
      `${provider}: ${each.name}: ${ours}, ${theirs}`,
    )
  }
  assert.ok(agreed >= 260, `${agreed} agree`)
})

/** As the proxy settles: by the model that answered, else by the one that was asked for, else at the ceiling. */
function settledNanos(list: PriceList, provider: string, each: SettlementCase): bigint {
  const atMs = Date.parse(`${each.atDay}T12:00:00Z`)
  const { reading, model, serviceTier } = read(each)
  assert.ok(reading.usage !== null && !reading.clamped && !reading.invalid)
  const find = (name: string): PricedModel | null => list.find(provider, name, atMs)
  const known = (name: string): PricedModel => {
    const priced = find(name) ?? list.ceiling(provider, name, atMs)
    assert.ok(priced !== null, `${provider} has prices`)
    return priced
  }
  const priced = (model === null ? null : find(model)) ?? known(each.model)
  return costOfAnswer({ usage: reading.usage, others: reading.others ?? [], serviceTier }, priced, known)
}

interface Read {
  readonly reading: UsageReading
  readonly model: string | null
  readonly serviceTier: string | null
}

/** What the wires do: the whole answer, or the last word of a stream. */
function read({ wire, payload, spoken }: SettlementCase): Read {
  const events = Array.isArray(payload) ? (payload as readonly JsonObject[]) : null
  const answer = events === null ? (payload as JsonObject) : lastOf(events, wire)
  const served = { model: stringOf(answer['model']), serviceTier: stringOf(answer['service_tier']) }
  switch (wire) {
    case 'chat':
    case 'embeddings':
      return { ...served, reading: readUsage(answer['usage']) }
    case 'responses':
      return { ...served, reading: readResponsesUsage(answer) }
    case 'messages':
      return { model: served.model, reading: readAnthropicUsage(answer['usage']), serviceTier: readServed(answer['usage']) }
    case 'gemini':
      return { model: stringOf(answer['modelVersion']), reading: readGeminiUsage(answer), serviceTier: readGeminiTier(answer) }
    case 'images':
      return { ...served, reading: readImagesUsage(answer) }
    case 'transcription':
      return { ...served, reading: readTranscriptionUsage(answer) }
    case 'speech':
      return {
        ...served,
        reading:
          spoken === undefined
            ? readSpeechUsage(answer['usage'])
            : { usage: usageOf({ characters: spokenCharacters(spoken) }), clamped: false, invalid: false },
      }
  }
}

function lastOf(events: readonly JsonObject[], wire: SettlementCase['wire']): JsonObject {
  if (wire === 'messages') {
    const message = objectOf(events.find(({ type }) => type === 'message_start')?.['message'])
    const deltas = events.filter(({ type }) => type === 'message_delta').map(({ usage }) => objectOf(usage))
    return { ...message, usage: deltas.reduce(mergeAnthropicUsage, objectOf(message['usage'])) }
  }
  if (wire === 'gemini') {
    const last = events.findLast(({ usageMetadata }) => usageMetadata !== undefined) ?? {}
    return { ...last, candidates: events.flatMap(({ candidates }) => (Array.isArray(candidates) ? (candidates as JsonObject[]) : [])) }
  }
  const last = events.findLast(({ usage, response }) => (usage ?? objectOf(response)['usage'] ?? null) !== null) ?? {}
  return last['response'] === undefined ? last : objectOf(last['response'])
}

function bookOf(provider: string, own: OwnPrices): ReturnType<typeof PriceEntrySchema.parse>[] {
  return Object.entries(own).map(([model, prices]) => PriceEntrySchema.parse({ provider, model, ...prices }))
}

const FLAVOURS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  openai: { chat: 'chat', responses: 'responses', embeddings: 'embeddings', images: 'images' },
  azure: { chat: 'chat', responses: 'responses', embeddings: 'embeddings' },
  anthropic: { messages: 'default' },
  google: { gemini: 'default', chat: 'chat' },
  groq: { chat: 'default' },
  mistral: { chat: 'default' },
  deepseek: { chat: 'chat' },
  'x-ai': { chat: 'chat' },
  fireworks: { chat: 'chat' },
  cerebras: { chat: 'chat' },
}

/** By the reader and the calculator of genai-prices. Null where it has none for the case. */
function theirNanos(provider: string, each: SettlementCase): number | null {
  const flavour = FLAVOURS[provider]?.[each.wire]
  const source = findProvider({ providerId: provider })
  if (flavour === undefined || source === undefined || Array.isArray(each.payload)) return null
  try {
    const { usage, model } = extractUsage(source, each.payload, flavour)
    const options = { providerId: provider, timestamp: new Date(`${each.atDay}T12:00:00Z`) }
    const price = calcPrice(usage, model ?? each.model, options) ?? calcPrice(usage, each.model, options)
    return price === null ? null : price.total_price * 1e9
  } catch {
    return null // it refuses what it has no price for
  }
}

/** It has a service tier, a fee, or units that they do not read out of such an answer. */
function isBeyondThem(provider: string, each: SettlementCase): boolean {
  const { reading, serviceTier } = read(each)
  const { usage } = reading
  if (usage === null) return false
  const tiers = (serviceTier ?? 'standard')
    .split('+')
    .filter((word) => !['standard', 'default', 'auto', 'not_available', 'global'].includes(word))
  const hasFees = usage.fileSearchCalls + usage.codeContainers + (provider === 'anthropic' ? 0 : usage.webSearchCalls) > 0
  const isUncounted = usage.seconds + usage.characters + usage.images > 0
  return tiers.length > 0 || hasFees || isUncounted || (reading.others ?? []).length > 0
}

function stringOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
function objectOf(value: unknown): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {}
}
