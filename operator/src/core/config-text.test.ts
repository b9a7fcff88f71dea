import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compile } from './compile.ts'
import { canonicalJson, contentHash } from './canonical.ts'
import { configNameOf, configOfText, configText } from './config-text.ts'
import { readManifests } from './manifests.ts'

const TEXT = `apiVersion: farebox.dev/v1alpha1
kind: PricingTier
metadata: { name: pro }
spec:
  displayName: Pro
  pricing: { model: PerConversation, price: "1.00" }
  unitEconomics: { targetGrossMarginPercent: 70 }
---
apiVersion: farebox.dev/v1alpha1
kind: ConversationBudget
metadata: { name: desk, namespace: support }
spec:
  selector: { matchLabels: { app: desk } }
  tier: { default: pro }
`

test('a config comes back as it was written; one that somebody changed does not', () => {
  const { snapshot } = readManifests([{ path: 'all.yaml', text: TEXT }])
  const config = compile(snapshot, { nowMs: 1_000, previous: new Map() }).configs.get('support/desk')
  assert.ok(config)
  const text = configText(config)
  assert.deepEqual(configOfText(text), config)
  assert.equal(configOfText(text.replace('"Enforce"', '"Observe"')), null, 'its hash is of another content')
  assert.deepEqual(configOfText(text.replace('"version":1000', '"version":1001'))?.version, 1_001, 'the version is not hashed')
  for (const wrong of ['', '{', 'null', '{"schemaVersion":1}', text.slice(1)]) assert.equal(configOfText(wrong), null)
})

test('one with fields of a later version comes back with them, at any depth', () => {
  const { snapshot } = readManifests([{ path: 'all.yaml', text: TEXT }])
  const config = compile(snapshot, { nowMs: 1_000, previous: new Map() }).configs.get('support/desk')
  const contract = config?.contracts['pro']
  assert.ok(config && contract)
  const { version, hash: _, ...content } = config
  const later = {
    ...content,
    fieldOfLater: [{ deep: true }],
    contracts: { pro: { ...contract, caps: { ...contract.caps, perTask: '1' } } },
  }
  const whole = { ...later, version, hash: contentHash(later) }
  const text = canonicalJson(whole)
  const read = configOfText(text)
  assert.deepEqual(read, whole)
  assert.equal(read === null ? null : configText(read), text)
  assert.equal(configOfText(text.replace('"perTask":"1"', '"perTask":"2"')), null, 'its hash is of another content')
  const valueOfLater = { ...later, mode: 'ModeOfLater' }
  assert.equal(configOfText(canonicalJson({ ...valueOfLater, version, hash: contentHash(valueOfLater) })), null, 'a value is not known')
})

test('one that another version wrote has its name, though it cannot be read', () => {
  const content = { schemaVersion: 1, namespace: 'support', budget: 'desk', prices: [{ fieldOfLater: '1.00' }] }
  const hash = contentHash(content)
  const text = canonicalJson({ ...content, version: 1_000, hash })
  assert.equal(configOfText(text), null)
  assert.deepEqual(configNameOf(text), { version: 1_000, hash })
  for (const wrong of [text.replace('1.00', '2.00'), text.replace(':1000', ':"1000"'), '', 'null', '[]', '{}'])
    assert.equal(configNameOf(wrong), null)
})
