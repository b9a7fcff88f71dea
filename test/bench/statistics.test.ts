import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cpuMicros, residentMb } from './process-figures.ts'
import { parseResidentMb, parseSchedstat, parseStat, quantile, spreadOf } from './statistics.ts'

test('a quantile is a value that was measured, by nearest rank', () => {
  const values = [9, 1, 8, 2, 7, 3, 6, 4, 5, 10]
  assert.equal(quantile(values, 50), 5)
  assert.equal(quantile(values, 99), 10)
  assert.equal(quantile(values, 0), 1)
  assert.equal(quantile([7], 99), 7)
  assert.throws(() => quantile([], 50), RangeError)
})

test('a spread has the median of odd and even counts, and both ends', () => {
  assert.deepEqual(spreadOf([3, 1, 2]), { median: 2, least: 1, most: 3 })
  assert.deepEqual(spreadOf([4, 1, 3, 2]), { median: 2.5, least: 1, most: 4 })
  assert.throws(() => spreadOf([]), RangeError)
})

test('CPU time is read from schedstat in nanoseconds and from stat in ticks, whatever the name of the process', () => {
  assert.equal(parseSchedstat('1234567 89 10\n'), 1_234.567)
  assert.throws(() => parseSchedstat('cpu 1 2'), TypeError)
  const stat = '42 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 11 0 100 1 2'
  assert.equal(parseStat(stat, 100), 2_000_000)
  assert.throws(() => parseStat('nothing', 100), TypeError)
})

test('resident memory is read from status', () => {
  assert.equal(parseResidentMb('Name:\tnode\nVmRSS:\t  100000 kB\nThreads:\t11\n'), 102.4)
  assert.throws(() => parseResidentMb('Name:\tnode\n'), TypeError)
})

test('the figures of this process grow with its work', { skip: process.platform !== 'linux' && 'reads /proc' }, () => {
  const before = cpuMicros(process.pid)
  const end = process.cpuUsage().user + 30_000
  while (process.cpuUsage().user < end);
  const used = cpuMicros(process.pid) - before
  assert.ok(used >= 20_000 && used < 10_000_000, `${used} us`)
  assert.ok(residentMb(process.pid) > 10)
})
