import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makePod } from '../../../test/support/pods.ts'
import { PodSchema } from './pod.ts'
import { heapMib, ResourceSettingsSchema, sidecarResources } from './resources.ts'

const SETTINGS = ResourceSettingsSchema.parse({ limits: { memory: '256Mi' } })
const LIMITED = ResourceSettingsSchema.parse({ limits: { cpu: '100m', memory: '256Mi' } })
const UNLIMITED = ResourceSettingsSchema.parse({ requests: { memory: '512Mi' } })
const container = (resources: unknown, name = 'app') => ({ name, image: 'example.test/app:1', resources })
const podOf = (...resources: readonly unknown[]) =>
  PodSchema.parse(makePod({ containers: resources.map((each, index) => container(each, `app-${index}`)) }))

test('T10: in a Guaranteed pod requests are the limits, so that it stays so', () => {
  const pod = podOf({ requests: { cpu: '1', memory: '1Gi' }, limits: { cpu: '1000m', memory: '1024Mi' } })
  const { requests, limits } = sidecarResources(pod, SETTINGS)
  assert.deepEqual(requests, { cpu: '200m', memory: '256Mi' })
  assert.deepEqual(limits, requests)
  assert.deepEqual(sidecarResources(pod, LIMITED).limits, { cpu: '100m', memory: '256Mi' })
})

test('T10: limits without requests make a pod Guaranteed, an init container can make it Burstable', () => {
  const resources = { limits: { cpu: '1', memory: '1Gi' } }
  assert.deepEqual(sidecarResources(podOf(resources), SETTINGS).requests, { cpu: '200m', memory: '256Mi' })
  const mixed = PodSchema.parse(makePod({ containers: [container(resources)], initContainers: [container({}, 'setup')] }))
  assert.deepEqual(sidecarResources(mixed, SETTINGS), { requests: { cpu: '50m', memory: '96Mi' }, limits: { memory: '256Mi' } })
})

test('T10: where the pod as a whole has resources, the sidecar has none of its own', () => {
  const whole = { limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '1', memory: '1Gi' } }
  const pod = PodSchema.parse(makePod({ resources: whole, containers: [container({ limits: { cpu: '1', memory: '1Gi' } })] }))
  assert.deepEqual(sidecarResources(pod, SETTINGS), {})
})

test('T10: a BestEffort pod stays BestEffort', () => {
  assert.deepEqual(sidecarResources(podOf({}, undefined, { limits: { 'example.com/gpu': '1' } }), SETTINGS), {})
})

test('T11: a Burstable pod has requests for everything, which scaling by CPU needs', () => {
  assert.deepEqual(sidecarResources(podOf({ requests: { cpu: '100m' } }), SETTINGS).requests, { cpu: '50m', memory: '96Mi' })
})

test('T9: where all others have a CPU limit, as a quota asks for, so has the sidecar', () => {
  const resources = { requests: { cpu: '100m', memory: '1Gi' }, limits: { cpu: '2', memory: '1Gi' } }
  assert.deepEqual(sidecarResources(podOf(resources, resources), SETTINGS).limits, { cpu: '1', memory: '256Mi' })
  assert.deepEqual(sidecarResources(podOf(resources, { limits: { memory: '1Gi' } }), SETTINGS).limits, { memory: '256Mi' })
})

test('without a memory limit in the settings the sidecar has none, but where its pod would be another kind of pod, or a quota may demand one', () => {
  const asks = { requests: { cpu: '50m', memory: '512Mi' } }
  assert.deepEqual(sidecarResources(podOf({ requests: { cpu: '100m' } }), UNLIMITED), asks)
  const limited = { requests: { cpu: '100m', memory: '1Gi' }, limits: { memory: '1Gi' } }
  assert.deepEqual(sidecarResources(podOf(limited), UNLIMITED), { ...asks, limits: { memory: '512Mi' } })
  assert.deepEqual(sidecarResources(podOf(limited), ResourceSettingsSchema.parse({})).limits, { memory: '256Mi' })
  const guaranteed = podOf({ limits: { cpu: '1', memory: '1Gi' } })
  assert.deepEqual(sidecarResources(guaranteed, UNLIMITED).limits, { cpu: '200m', memory: '512Mi' })
  assert.deepEqual(sidecarResources(guaranteed, ResourceSettingsSchema.parse({})).limits, { cpu: '200m', memory: '256Mi' })
})

test('a request that the settings do not say is no more than the limit', () => {
  const small = ResourceSettingsSchema.parse({ limits: { cpu: '30m', memory: '64Mi' } })
  assert.deepEqual(small.requests, { cpu: '30m', memory: '64Mi' })
  assert.deepEqual(ResourceSettingsSchema.parse({ limits: { cpu: '1' } }), {
    requests: { cpu: '50m', memory: '96Mi' },
    limits: { cpu: '1' },
  })
})

test('the heap is bounded below the memory limit, and by a default where there is none', () => {
  assert.equal(heapMib({ limits: { memory: '256Mi' } }), 153)
  assert.equal(heapMib({ limits: { memory: '64Mi' } }), 48)
  assert.equal(heapMib({}), 160)
})

test('quantities may be numbers, as YAML has them', () => {
  const { requests, limits } = ResourceSettingsSchema.parse({ requests: { cpu: 0.5 }, limits: { cpu: 2, memory: 268_435_456 } })
  assert.deepEqual([requests.cpu, limits], ['0.5', { cpu: '2', memory: '268435456' }])
})

test('a limit may be what is requested, in whatever words', () => {
  const same = { requests: { cpu: '1', memory: '256Mi' }, limits: { cpu: '1000m', memory: '0.25Gi' } }
  assert.deepEqual(ResourceSettingsSchema.parse(same), same)
})

test('settings that the API server would refuse are refused', () => {
  for (const bad of [
    { limits: { cpu: 0 } },
    { limits: { cpu: true } },
    { requests: { memory: '96Mi' }, limits: { memory: '64Mi' } },
    { requests: { cpu: '2' }, limits: { cpu: '1' } },
    { requests: { cpu: 'much' } },
    { limits: { memory: '0' } },
    { limit: {} },
  ])
    assert.equal(ResourceSettingsSchema.safeParse(bad).success, false, JSON.stringify(bad))
})
