import assert from 'node:assert/strict'
import { test } from 'node:test'
import { notStartingFor } from './not-starting.ts'

const waiting = (reason: string, more: object = {}): object => ({
  name: 'farebox',
  restartCount: 0,
  state: { waiting: { reason } },
  ...more,
})
const statusWith = (...initContainerStatuses: readonly object[]): object => ({ phase: 'Pending', initContainerStatuses })

test('an image that cannot be pulled, and a container that cannot run, keep a pod from starting; what merely takes its time does not', () => {
  for (const reason of ['ErrImagePull', 'ImagePullBackOff', 'InvalidImageName', 'ErrImageNeverPull'])
    assert.equal(notStartingFor(statusWith(waiting(reason))), 'ImagePullFailing', reason)
  for (const reason of ['CreateContainerConfigError', 'CreateContainerError', 'RunContainerError'])
    assert.equal(notStartingFor(statusWith(waiting(reason))), 'ContainerFailing', reason)
  assert.equal(notStartingFor(statusWith(waiting('PodInitializing'))), null)
})

test('one that crashes again and again is said to fail while it runs in between, too; not once it has started', () => {
  const running = (restartCount: number, started: boolean): object =>
    statusWith({ name: 'farebox', restartCount, started, state: { running: { startedAt: '2026-11-24T12:00:00Z' } } })
  assert.equal(notStartingFor(statusWith(waiting('CrashLoopBackOff', { restartCount: 2 }))), 'ContainerFailing')
  assert.equal(notStartingFor(running(2, false)), 'ContainerFailing')
  assert.equal(notStartingFor(running(1, false)), null)
  assert.equal(notStartingFor(running(5, true)), null)
})

test('other containers, and pods of which no node has said anything, are none of ours', () => {
  assert.equal(notStartingFor(statusWith({ ...waiting('ImagePullBackOff'), name: 'migrate' }, waiting('PodInitializing'))), null)
  for (const status of [undefined, null, {}, { phase: 'Pending' }, statusWith(), { initContainerStatuses: [{ name: 7 }] }])
    assert.equal(notStartingFor(status), null)
})
