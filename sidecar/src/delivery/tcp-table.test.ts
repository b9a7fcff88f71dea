import assert from 'node:assert/strict'
import { test } from 'node:test'
import { establishedIn, isLocal, plainAddress } from './tcp-table.ts'

/** As kernel 6.8 wrote them: a listener, a connection to 1.1.1.1:443, one in TIME_WAIT, one without a process, one on loopback. */
const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1053 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31415 1 0000000000000000 100 0 0 10 0
   1: 0C00F40A:A3E2 01010101:01BB 01 00000000:00000000 02:000006D1 00000000  1000        0 27182 2 0000000000000000 24 4 30 10 -1
   2: 0C00F40A:A3E4 01010101:01BB 06 00000000:00000000 03:000015E2 00000000     0        0 0 3 0000000000000000
   3: 0C00F40A:A3E6 01010101:01BB 01 00000000:00000000 02:000006D1 00000000  1000        0 0 2 0000000000000000 24 4 30 10 -1
   4: 0100007F:1054 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 16180 1 0000000000000000 20 4 30 10 -1
`
/** A connection to 2606:4700::6810:7c60:443, one to 140.82.112.5:443 from a socket of IPv6, and one on ::1. */
const TCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 000080FE00000000FF005450B6AD1DFE:D2F0 004706260000000000000000607C1068:01BB 01 00000000:00000000 02:0000000B 00000000  1000        0 14142 2 0000000000000000 27 4 24 10 -1
   1: 0000000000000000FFFF00000C00F40A:D2F2 0000000000000000FFFF00000570528C:01BB 01 00000000:00000000 02:0000000B 00000000  1000        0 17320 2 0000000000000000 27 4 24 10 -1
   2: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:E2A4 01 00000000:00000000 00:00000000 00000000  1000        0 22360 1 0000000000000000 20 4 30 10 -1
`

test('connections that stand and belong to a process are read, of IPv4, of IPv6, and of IPv4 within IPv6', () => {
  assert.deepEqual(establishedIn(TCP), [
    { remoteAddress: '1.1.1.1', remotePort: 443, uid: 1000, inode: 27182 },
    { remoteAddress: '127.0.0.1', remotePort: 50_000, uid: 1000, inode: 16180 },
  ])
  assert.deepEqual(establishedIn(TCP6), [
    { remoteAddress: '2606:4700::6810:7c60', remotePort: 443, uid: 1000, inode: 14142 },
    { remoteAddress: '140.82.112.5', remotePort: 443, uid: 1000, inode: 17320 },
    { remoteAddress: '::1', remotePort: 58_020, uid: 1000, inode: 22360 },
  ])
})

test('what is no such line is left out', () => {
  assert.deepEqual(establishedIn(''), [])
  assert.deepEqual(establishedIn('x\n 1: zz:01BB 01010101:01BB 01\n 0: 0C00F40A:A3E2 0101:01BB 01 0:0 0:0 0 0 0 5 1\n'), [])
})

test('an address has one spelling', () => {
  assert.equal(plainAddress('2606:4700:0:0:0:0:6810:7C60'), '2606:4700::6810:7c60')
  assert.equal(plainAddress('::ffff:10.1.2.3'), '10.1.2.3')
  assert.equal(plainAddress('fe80::1%eth0'), 'fe80::1')
  assert.equal(plainAddress('10.1.2.3'), '10.1.2.3')
})

test('loopback and unspecified addresses are within the pod', () => {
  assert.deepEqual(['127.0.0.1', '127.9.9.9', '::1', '::', '0.0.0.0', '10.0.0.1', '2606:4700::1'].map(isLocal), [
    true,
    true,
    true,
    true,
    true,
    false,
    false,
  ])
})
