import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Pacer } from './pacer.ts'

function* slices(count: number, name: string, seen: string[]): Generator<void, string> {
  for (let slice = 0; slice < count; slice += 1) {
    seen.push(name)
    yield
  }
  return name
}

test('work of many takes turns, and each gets its own result', async () => {
  const pacer = new Pacer(0)
  const seen: string[] = []
  const results = await Promise.all(['a', 'b', 'c'].map((name) => pacer.run(slices(3, name, seen))))
  assert.deepEqual(results, ['a', 'b', 'c'])
  assert.equal(seen.join(''), 'abcabcabc')
})

test('between two slices everything else that waits may run', async () => {
  const pacer = new Pacer(0)
  const seen: string[] = []
  let running = true
  const others = (): void => {
    seen.push('.')
    if (running) setImmediate(others)
  }
  setImmediate(others)
  await Promise.all([pacer.run(slices(4, 'a', seen)), pacer.run(slices(4, 'b', seen))])
  running = false
  // The first slice of each runs at once: its caller was called for that.
  assert.match(seen.join(''), /^ab(\.[ab]){6}\.*$/)
})

test('work in one slice waits for nobody', async () => {
  const pacer = new Pacer(0)
  const seen: string[] = []
  const waiting = pacer.run(slices(50, 'long', seen))
  assert.equal(await pacer.run(slices(0, 'short', seen)), 'short')
  assert.ok(seen.length < 3)
  assert.equal(await waiting, 'long')
})

test('work that fails fails for its caller alone', async () => {
  const pacer = new Pacer(0)
  function* failing(): Generator<void, string> {
    yield
    throw new RangeError('broken')
  }
  const seen: string[] = []
  const [failed, done] = await Promise.allSettled([pacer.run(failing()), pacer.run(slices(3, 'a', seen))])
  assert.equal(failed.status, 'rejected')
  assert.deepEqual(done, { status: 'fulfilled', value: 'a' })
})

test('short slices follow each other in one turn of the event loop, for a while', async () => {
  const pacer = new Pacer(10_000)
  let turns = 0
  const count = (): void => {
    turns += 1
    setImmediate(count)
  }
  const first = setImmediate(count)
  assert.equal(await pacer.run(slices(1_000, 'a', [])), 'a')
  clearImmediate(first)
  assert.equal(turns, 0)
})
