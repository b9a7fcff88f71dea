import assert from 'node:assert/strict'
import { test } from 'node:test'
import { suspectsAmong } from './bypass-watch.ts'
import { establishedIn } from './tcp-table.ts'

const KNOWN = new Map([['1.1.1.1 443', 'a provider']])
const OWN = new Set([1])

/** A line of the kernel's table: a connection to 1.1.1.1:443, or to another address. */
function line(uid: number, inode: number, remote = '01010101:01BB'): string {
  return `0: 0C00F40A:A3E2 ${remote} 01 00000000:00000000 02:000006D1 00000000 ${uid} 0 ${inode} 2 0000000000000000 24 4 30 10 -1`
}

function inodesOf(...lines: readonly string[]): readonly number[] {
  return suspectsAmong(establishedIn(lines.join('\n')), KNOWN, OWN).map(({ inode }) => inode)
}

test('a connection to a provider whose socket is not ours goes past us, whoever opened it', () => {
  assert.deepEqual(inodesOf(line(1_000, 1), line(1_000, 2), line(0, 3), line(65_532, 4)), [2, 3, 4])
  assert.deepEqual(inodesOf(line(1_000, 2, '02020202:01BB'), line(1_000, 3, '01010101:0050')), [])
})

test('the proxies of Istio and Linkerd open the connections of the whole pod, ours too: theirs are none of the app', () => {
  assert.deepEqual(inodesOf(line(1_337, 2), line(2_102, 3)), [])
  assert.deepEqual(inodesOf(line(1_337, 2), line(1_338, 3)), [3], 'an app beside the proxy is seen')
})
