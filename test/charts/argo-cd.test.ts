/**
 * The health script for Argo CD, run by the Lua 5.1 that is in Redis, as Argo CD's own is a Lua 5.1; on statuses that the operator
 * itself makes.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { withSummary, conditionsOf } from '@farebox/operator/core/conditions.ts'
import type { Finding } from '@farebox/operator/core/conditions.ts'
import { Redis } from 'ioredis'
import { load } from 'js-yaml'
import { redisProgram, startRedis } from '../support/redis.ts'
import { CHARTS } from './helm.ts'

const script = readFileSync(`${CHARTS}argo-cd/health.lua`, 'utf8')
const program = redisProgram()
const server = program === null ? null : await startRedis(program)
const redis = server === null ? null : new Redis(server.url)
after(async () => {
  redis?.disconnect()
  await server?.stop()
})
const options = redis === null ? { skip: 'redis-server is missing' } : {}

interface Health {
  readonly status: 'Healthy' | 'Progressing' | 'Degraded'
  readonly message: string
}

/** In Argo CD `obj` is a global. */
async function healthOf(obj: object): Promise<Health> {
  const program = `local obj = cjson.decode(ARGV[1])\nlocal function health()\n${script}\nend\nreturn cjson.encode(health())`
  return JSON.parse(String(await redis?.eval(program, 0, JSON.stringify(obj)))) as Health
}

const finding = (type: Finding['type'], status: Finding['status'], reason: string, message = 'as it is'): Finding => ({
  type,
  status,
  reason,
  message,
})
const budget = (findings: readonly Finding[], generation = 2, observedGeneration = generation): object => ({
  apiVersion: 'farebox.dev/v1alpha1',
  kind: 'ConversationBudget',
  metadata: { name: 'desk', namespace: 'support', generation },
  status: { observedGeneration, conditions: conditionsOf(withSummary(findings), [], observedGeneration, 0) },
})
const accepted = finding('Accepted', 'True', 'Accepted')
const programmed = finding('Programmed', 'True', 'Programmed')

const CASES: readonly (readonly [what: string, object: object, status: Health['status'], says: RegExp])[] = [
  ['just created', { kind: 'PricingTier', metadata: { name: 'pro', generation: 1 } }, 'Progressing', /has not looked at it/],
  ['with an empty status', { kind: 'PricingTier', metadata: { name: 'pro', generation: 1 }, status: {} }, 'Progressing', /has not looked/],
  ['changed since', budget([accepted, programmed], 3, 2), 'Progressing', /has not seen the last change/],
  ['in force', budget([accepted, programmed]), 'Healthy', /^Ready: in force$/],
  ['in force without traffic', budget([accepted, programmed, finding('Enforced', 'Unknown', 'NoTraffic')]), 'Healthy', /in force/],
  ['with old numbers', budget([accepted, programmed, finding('UsageFresh', 'False', 'Stale')]), 'Healthy', /in force/],
  [
    'before its tier',
    budget([finding('Accepted', 'False', 'TierNotFound', 'there is no tier pro')]),
    'Progressing',
    /^TierNotFound: there is no tier pro$/,
  ],
  [
    'that can never be right',
    budget([finding('Accepted', 'False', 'MarginLeavesNothing', 'nothing is left')]),
    'Degraded',
    /^MarginLeavesNothing: nothing is left$/,
  ],
  ['on its way to sidecars', budget([accepted, finding('Programmed', 'False', 'Pending')]), 'Progressing', /^Pending/],
  ['second on its pods', budget([accepted, finding('Programmed', 'False', 'PartiallyProgrammed')]), 'Degraded', /^PartiallyProgrammed/],
  // In force each: what is amiss is told, and holds back no Deployment that a later wave brings.
  ['whose pods go past it', budget([accepted, programmed, finding('Enforced', 'False', 'Bypassed')]), 'Healthy', /not ready: Bypassed/],
  [
    'that finds pods without a sidecar',
    budget([accepted, programmed, finding('Injected', 'False', 'MissingSidecars', '3 pods of 3 have no sidecar: 3 OlderThanBudget')]),
    'Healthy',
    /^in force, but not ready: MissingSidecars: 3 pods of 3 have no sidecar: 3 OlderThanBudget$/,
  ],
  ['whose store is away', budget([accepted, programmed, finding('Coordinated', 'False', 'StoreAway')]), 'Healthy', /StoreAway/],
  ['whose sidecars refuse it', budget([accepted, finding('Programmed', 'False', 'Refused')]), 'Degraded', /^Refused/],
  [
    'that was edited wrongly, and goes on with its last config',
    budget([finding('Accepted', 'False', 'MarginLeavesNothing'), programmed]),
    'Degraded',
    /^MarginLeavesNothing/,
  ],
]
for (const [what, object, status, says] of CASES) {
  test(`T75: an object ${what} is ${status}`, options, async () => {
    const health = await healthOf(object)
    assert.equal(health.status, status, health.message)
    assert.match(health.message, says)
  })
}

test('T75: a budget that is used up is as healthy as before', options, async () => {
  const usedUp = budget([accepted, programmed])
  const { status } = usedUp as { readonly status: object }
  const health = await healthOf({ ...usedUp, status: { ...status, alerts: [{ atPercent: 100, count: 12 }] } })
  assert.equal(health.status, 'Healthy')
})

test('the patch for Argo CD holds the script for each kind', () => {
  const { data } = load(readFileSync(`${CHARTS}argo-cd/argocd-cm.yaml`, 'utf8')) as { readonly data: Readonly<Record<string, string>> }
  const kinds = ['PricingTier', 'ConversationBudget', 'PriceBook']
  assert.deepEqual(data, Object.fromEntries(kinds.map((kind) => [`resource.customizations.health.farebox.dev_${kind}`, script])))
})
