import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { totalmem } from 'node:os'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { getHeapStatistics } from 'node:v8'
import { BodyRoom, memoryOfProcess, roomIn } from './body-room.ts'
import type { Place } from './body-room.ts'

const LONG_MS = 10_000
const MIB = 1024 * 1024

class FakeClient extends EventEmitter {
  destroyed = false
  leave(): void {
    this.destroyed = true
    this.emit('close')
  }
}

function clientOf(fake: FakeClient): ServerResponse {
  return fake as unknown as ServerResponse
}

const client = clientOf(new FakeClient())

/** A place with so much in it, which had room at once. */
function placeWith(room: BodyRoom, bytes: number): Place {
  const place = room.place()
  assert.equal(place.take(bytes, client), true)
  return place
}

test('bodies enter while there is room, and those that find none wait for it in the order in which they came', async () => {
  const room = new BodyRoom(100 * MIB, LONG_MS)
  const first = placeWith(room, 60 * MIB)
  const second = placeWith(room, 40 * MIB)
  assert.equal(room.bytes, 100 * MIB)
  const order: string[] = []
  const wait = async (name: string, bytes: number): Promise<Place> => {
    const place = room.place()
    assert.equal(await place.take(bytes, client), true)
    order.push(name)
    return place
  }
  const large = wait('large', 90 * MIB)
  const less = wait('less', 5 * MIB) // it would fit after the first, but the large one would never come to it
  assert.equal(room.waiting, 2)
  assert.ok(first.isWanted)
  first.leave()
  await turn()
  assert.deepEqual(order, [])
  second.leave()
  const places = await Promise.all([large, less])
  assert.deepEqual(order, ['large', 'less'])
  assert.equal(room.bytes, 95 * MIB)
  for (const place of places) place.leave()
  assert.deepEqual([room.bytes, room.waiting], [0, 0])
})

test('who waits too long is told so, and those behind get what suffices for them', async () => {
  const room = new BodyRoom(100 * MIB, 20)
  const first = placeWith(room, 60 * MIB)
  const [large, less] = [room.place(), room.place()]
  assert.deepEqual(await Promise.all([large.take(90 * MIB, client), less.take(30 * MIB, client)]), [false, true])
  assert.equal(room.bytes, 90 * MIB)
  for (const place of [first, large, less]) place.leave()
  assert.equal(room.bytes, 0)
})

test('who leaves while it waits is out of the way at once, and who has left does not wait', async () => {
  const room = new BodyRoom(100 * MIB, LONG_MS)
  const first = placeWith(room, 60 * MIB)
  const leaving = new FakeClient()
  const gone = room.place().take(90 * MIB, clientOf(leaving))
  const next = room.place()
  const nextTaken = next.take(30 * MIB, client)
  leaving.leave()
  assert.deepEqual(await Promise.all([gone, nextTaken]), [false, true])
  assert.equal(leaving.listenerCount('close'), 0)
  assert.equal(room.place().take(90 * MIB, clientOf(leaving)), false)
  for (const place of [first, next]) place.leave()
  assert.deepEqual([room.bytes, room.waiting], [0, 0])
})

test('what is there already is counted where there is room for it, or anyway', () => {
  const room = new BodyRoom(100 * MIB, LONG_MS)
  const place = room.place()
  assert.equal(place.takeNow(70 * MIB), true)
  assert.equal(place.takeNow(40 * MIB), false)
  assert.equal(room.bytes, 70 * MIB)
  place.takeAnyway(40 * MIB)
  assert.equal(room.bytes, 110 * MIB)
  place.leave()
  assert.equal(room.bytes, 0)
})

test('what two hold is given back when both have left', () => {
  const room = new BodyRoom(100 * MIB, LONG_MS)
  const place = placeWith(room, 70 * MIB)
  place.share()
  place.leave()
  assert.equal(room.bytes, 70 * MIB)
  place.leave()
  assert.equal(room.bytes, 0)
})

test('small bodies do not wait for large ones, and have a room of their own', async () => {
  const room = new BodyRoom(MIB, 20)
  const large = placeWith(room, MIB)
  const waiting = room.place().take(MIB, client)
  const small = Array.from({ length: 8 }, () => placeWith(room, MIB / 8))
  assert.equal(room.bytes, 2 * MIB)
  assert.equal(await room.place().take(1, client), false)
  assert.equal(await waiting, false)
  const [first] = small
  assert.equal(first?.takeNow(MIB / 4), false) // with that it is a large one
  large.leave()
  assert.equal(first?.takeNow(MIB / 4), true)
  for (const place of small) place.leave()
  assert.equal(room.bytes, 0)
})

test('what a call holds is wanted by those who wait for the same room, and by no others', async () => {
  const room = new BodyRoom(MIB, LONG_MS)
  const small = Array.from({ length: 8 }, () => placeWith(room, MIB / 8))
  const large = placeWith(room, MIB)
  const wanted = (): boolean[] => [...small, large, room.place()].map(({ isWanted }) => isWanted)
  const none = wanted().fill(false)
  assert.deepEqual(wanted(), none)
  const waits = room.place()
  const taken = waits.take(1, client)
  assert.deepEqual(wanted(), none.fill(true, 0, 8))
  none.fill(false)
  small[0]?.leave()
  assert.equal(await taken, true)
  assert.deepEqual(wanted(), none)
  const alsoLarge = room.place().take(MIB, client)
  assert.deepEqual(wanted(), none.with(8, true))
  large.leave()
  assert.equal(await alsoLarge, true)
})

test('a call without a body does not wait for others', async () => {
  const room = new BodyRoom(100, LONG_MS)
  const first = placeWith(room, 100)
  const waiting = room.place()
  const taken = waiting.take(1, client)
  placeWith(room, 0).leave()
  first.leave()
  assert.equal(await taken, true)
  waiting.leave()
  assert.equal(room.bytes, 0)
})

test('the room is an eighth of the memory, and never less than one body may have', () => {
  assert.equal(roomIn(1_000, 100), 125)
  assert.equal(roomIn(1_000, 400), 400)
  assert.ok(memoryOfProcess() > 0 && memoryOfProcess() <= totalmem())
  assert.ok(memoryOfProcess() <= (getHeapStatistics().heap_size_limit * 100) / 60)
})
