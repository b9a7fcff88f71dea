import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { StepJournal } from './step-journal.ts'
import type { OutageStep } from './steps.ts'

const KEEP_MS = 10

describe('steps that wait for the store', () => {
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'farebox-steps-'))
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  const open = (nowMs: number): StepJournal => new StepJournal(join(folder, 'steps'), nowMs - KEEP_MS)
  const outcome = (key: string): OutageStep => ({
    kind: 'outcome',
    step: { key, tier: 'pro', kind: 'started', atMs: 0, note: {} },
  })
  const hold = (operationId: string, more: { readonly isUnasked?: true }): OutageStep =>
    ({ kind: 'hold', step: { reservation: { operationId }, change: {}, nowMs: 5 }, granted: 1n, ...more }) as unknown as OutageStep
  const arrive = (journal: StepJournal, nowMs: number): void => {
    journal.next(nowMs)
    journal.told(nowMs)
    journal.arrived(nowMs)
  }

  test('are told again by who opens the file soon after they arrived, and later only those that did not', () => {
    const first = open(0)
    first.append(outcome('a'))
    first.append(outcome('b'))
    arrive(first, 100)
    first.append(outcome('c'))
    first.close()
    const unsentAt = (nowMs: number): number => {
      const journal = open(nowMs)
      journal.close()
      return journal.unsent
    }
    assert.deepEqual([unsentAt(105), unsentAt(111)], [3, 1])
    const again = open(105)
    arrive(again, 106)
    again.close()
    assert.deepEqual([unsentAt(111), unsentAt(117)], [3, 0], 'they arrived again')
  })

  test('are known to the store since it was told them first, or asked; one that it was never asked for is not', () => {
    const first = open(0)
    first.append(hold('asked', {}))
    first.append(hold('own', { isUnasked: true }))
    const knownAt = (journal: StepJournal, nowMs: number) => journal.next(nowMs).map(({ knownMs }) => knownMs)
    assert.deepEqual(knownAt(first, 50), [45, null])
    first.told(50)
    first.again()
    assert.deepEqual(knownAt(first, 60), [55, 10])
    first.close()
    const again = open(70)
    assert.deepEqual(knownAt(again, 70), [65, 20])
    again.told(70)
    again.again()
    assert.deepEqual(knownAt(again, 80), [75, 30])
    again.close()
  })

  test('that take the place of those that a crash of the machine has cut off are none of those that arrived', () => {
    const first = open(0)
    first.append(outcome('a'))
    first.append(outcome('b'))
    arrive(first, 10)
    first.close()
    const part = readdirSync(folder).find((name) => name.includes('commits')) ?? ''
    const [line = ''] = readFileSync(join(folder, part), 'utf8').split('\n')
    writeFileSync(join(folder, part), `${line}\n`)
    const second = open(1_000)
    assert.equal(second.unsent, 0)
    second.append(outcome('c'))
    second.close()
    const third = open(2_000)
    assert.deepEqual(
      third.next(2_000).map(({ step }) => step),
      [outcome('c')],
    )
    third.close()
  })
})
