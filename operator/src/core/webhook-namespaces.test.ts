import assert from 'node:assert/strict'
import { test } from 'node:test'
import { leavesOut, namespaceSelectorsOf } from './webhook-namespaces.ts'

const NAME = 'kubernetes.io/metadata.name'
const isLeftOut = (namespaceSelectors: readonly unknown[], labels: Readonly<Record<string, string>>): boolean =>
  leavesOut(namespaceSelectorsOf({ webhooks: namespaceSelectors.map((namespaceSelector) => ({ namespaceSelector })) }), labels)

test('a namespace is left out where no webhook selects it', () => {
  const notSystem = { matchExpressions: [{ key: NAME, operator: 'NotIn', values: ['kube-system', 'kube-public'] }] }
  assert.equal(isLeftOut([notSystem], { [NAME]: 'kube-public' }), true)
  assert.equal(isLeftOut([notSystem], { [NAME]: 'shop' }), false)
  assert.equal(isLeftOut([{ matchLabels: { team: 'shop' } }], { [NAME]: 'shop' }), true)
  assert.equal(isLeftOut([notSystem, {}], { [NAME]: 'kube-public' }), false)
  assert.equal(isLeftOut([undefined], { [NAME]: 'kube-public' }), false, 'without a selector all are looked at')
})

test('of a configuration that is not there or cannot be read nothing is said', () => {
  for (const configuration of [
    undefined,
    {},
    { webhooks: [] },
    { webhooks: [{ namespaceSelector: { matchExpressions: [{ key: 'x' }] } }] },
  ])
    assert.equal(leavesOut(namespaceSelectorsOf(configuration), { [NAME]: 'shop' }), false)
})
