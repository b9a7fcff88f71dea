import assert from 'node:assert/strict'
import { totalmem } from 'node:os'
import { test } from 'node:test'
import { BodyRoom, memoryOfProcess, roomIn } from './body-room.ts'
import type { Place } from './body-room.ts'

const LONG_MS = 10_000

function entered(place: Place | Promise<Place | null>): Place {
  assert.ok(!(place instanceof Promise), 'it must not wait')
  return place
}

test('bodies enter while there is room, and those that find none wait for it in the order in which they came', async () => {
  const room = new BodyRoom(100, LONG_MS)
  const first = entered(room.enter(60))
  const second = entered(room.enter(40))
  assert.equal(room.bytes, 100)
  const order: string[] = []
  const note = async (name: string, place: Place | Promise<Place | null>): Promise<Place> => {
    const got = await place
    order.push(name)
    assert.ok(got !== null)
    return got
  }
  const large = note('large', room.enter(90))
  const small = note('small', room.enter(5)) // it would fit after the first, but the large one would never come to it
  first.leave()
  await new Promise(setImmediate)
  assert.deepEqual(order, [])
  second.leave()
  const places = await Promise.all([large, small])
  assert.deepEqual(order, ['large', 'small'])
  assert.equal(room.bytes, 95)
  for (const place of places) place.leave()
  assert.equal(room.bytes, 0)
})

test('who waits too long is told so, and those behind get what suffices for them', async () => {
  const room = new BodyRoom(100, 20)
  const first = entered(room.enter(60))
  const outcomes = await Promise.all([room.enter(90), room.enter(30)])
  assert.deepEqual(
    outcomes.map((outcome) => outcome !== null),
    [false, true],
  )
  assert.equal(room.bytes, 90)
  first.leave()
  outcomes[1]?.leave()
  assert.equal(room.bytes, 0)
})

test('what is there already is counted where there is room for it, and given back once', () => {
  const room = new BodyRoom(100, LONG_MS)
  const place = entered(room.enter(0))
  assert.equal(place.add(70), true)
  assert.equal(place.add(40), false)
  assert.equal(room.bytes, 70)
  const other = entered(room.enter(30))
  place.leave()
  place.leave()
  assert.equal(room.bytes, 30)
  assert.equal(other.add(70), true)
})

test('a call without a body does not wait for others', async () => {
  const room = new BodyRoom(100, LONG_MS)
  const first = entered(room.enter(100))
  const waiting = room.enter(1)
  entered(room.enter(0)).leave()
  first.leave()
  ;(await waiting)?.leave()
  assert.equal(room.bytes, 0)
})

test('the room is an eighth of the memory, and never less than one body may have', () => {
  assert.equal(roomIn(1_000, 100), 125)
  assert.equal(roomIn(1_000, 400), 400)
  assert.ok(memoryOfProcess() > 0 && memoryOfProcess() <= totalmem())
})
