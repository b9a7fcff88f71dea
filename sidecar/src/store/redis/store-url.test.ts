import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isStoreUrl, parseStoreUrl } from './store-url.ts'

const FIRST = { isCluster: false, isTls: false, nodes: [{ host: 'store', port: 6379 }], username: '', password: '', database: null }

test('the URL of a store says where it is, as whom, and how', () => {
  assert.deepEqual(parseStoreUrl('redis://store'), FIRST)
  assert.deepEqual(parseStoreUrl('redis://ann@store:6379/'), { ...FIRST, username: 'ann' })
  assert.deepEqual(parseStoreUrl('rediss://:s%40%25%2f%3A:@store/3'), { ...FIRST, isTls: true, password: 's@%/::', database: 3 })
  assert.deepEqual(parseStoreUrl('redis+cluster://ann:b:c@[::1]:7000,host-2:7001'), {
    ...FIRST,
    isCluster: true,
    nodes: [
      { host: '::1', port: 7000 },
      { host: 'host-2', port: 7001 },
    ],
    username: 'ann',
    password: 'b:c',
  })
})

test('what stands in a password as it is, and may not, is refused with how it must be, and without the password', () => {
  for (const url of [
    'redis://ann:hush@hush@store:6379',
    'redis://ann:hush%@store:6379',
    'redis://ann:hush%ff@store:6379',
    'redis://ann:hush/hush@store:6379',
    'redis://ann:hush#hush@store:6379',
    'redis://ann:hush hush@store:6379',
  ]) {
    assert.equal(isStoreUrl(url), false, url)
    assert.throws(
      () => parseStoreUrl(url),
      (error) => error instanceof RangeError && error.message.endsWith('is percent-encoded (%40 for @)') && !error.message.includes('hush'),
      url,
    )
  }
})

test('a URL that leads nowhere is refused', () => {
  for (const url of ['http://store', 'redis://', 'redis://store:99999', 'redis://:6379', 'redis://::1', 'redis://store/x', 'redis://a,b'])
    assert.throws(() => parseStoreUrl(url), RangeError, url)
  assert.throws(() => parseStoreUrl('redis://a,b'), /several hosts need redis\+cluster/)
})
