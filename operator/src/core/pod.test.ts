import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PodSchema } from './pod.ts'

function issuesOf(pod: unknown): readonly string[] {
  const { error } = PodSchema.safeParse(pod)
  return (error?.issues ?? []).map(({ path, message }) => `${path.join('.')}: ${message}`)
}

test('anybody can send a review: what is in it without end is not read, and of what is wrong in it the first of a list is told', () => {
  const metadata = {}
  assert.deepEqual(issuesOf({ metadata, spec: { containers: Array(2_000_000).fill(0) } }), ['spec: must have at most 50000 values'])
  assert.deepEqual(issuesOf({ metadata, spec: { containers: Array(32_000).fill(0) } }), [
    'spec.containers.0: Invalid input: expected object, received number',
  ])
  const nested = { name: 'app', env: Array(1_000).fill(0), ports: Array(1_000).fill(0) }
  assert.equal(
    issuesOf({ metadata, spec: { containers: Array.from({ length: 20 }, () => nested), volumes: Array(9_000).fill(0) } }).length,
    2,
  )
  const labels = Object.fromEntries(Array.from({ length: 300_000 }, (_, index) => [`n${index}`, 0]))
  const spec = { containers: [] }
  assert.deepEqual(issuesOf({ metadata: { labels, annotations: { a: 1, b: 2 } }, spec }), [
    'metadata.labels: must have at most 10000 keys',
    'metadata.annotations.a: Invalid input: expected string, received number',
  ])
})

test('a large pod is read', () => {
  const env = Array.from({ length: 400 }, (_, index) => ({ name: `N${index}`, valueFrom: { secretKeyRef: { name: 'keys', key: 'k' } } }))
  const containers = Array.from({ length: 20 }, (_, index) => ({ name: `c${index}`, env }))
  const managedFields = Array.from({ length: 60_000 }, () => ({}))
  const annotations = Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`n${index}`, 'x']))
  assert.deepEqual(issuesOf({ metadata: { annotations, managedFields }, spec: { containers } }), [])
})
