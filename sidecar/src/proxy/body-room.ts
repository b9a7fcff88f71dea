/**
 * How much of bodies is held at a time. What a call sends is held until its answer is there, so many large calls at once would
 * end the process for want of memory, and cut all others with it. A call that finds no room waits before its body is read, first
 * come first served, and is refused when there is none in time. Talk and what is large have a room each: a question does not wait for pictures.
 */
import type { ServerResponse } from 'node:http'
import { totalmem } from 'node:os'
import { getHeapStatistics } from 'node:v8'

const WAIT_MS_MAX = 10_000
/** A body from this size on is large. */
const LARGE_BYTES = 256 * 1024
/** Of each byte there are up to four more while it is read and written anew: as text, as what was parsed of it, as the body that goes out. */
const SHARE_OF_MEMORY = 8
/** Of what a sidecar may have in all, its heap has this much at most (`heapMib` of the operator). */
const HEAP_PERCENT = 60

/** Bytes of each room of a process with this much memory; `least` however little it has. */
export function roomIn(memoryBytes: number, least: number): number {
  return Math.max(least, Math.floor(memoryBytes / SHARE_OF_MEMORY))
}

/** Bytes of memory that this process may have: what its container or machine has, and no more than suits its heap. */
export function memoryOfProcess(): number {
  const limit = process.constrainedMemory() // 0, or more than there is: no limit is known
  const machine = limit > 0 ? Math.min(limit, totalmem()) : totalmem()
  return Math.min(machine, (getHeapStatistics().heap_size_limit * 100) / HEAP_PERCENT)
}

/** Who is gone before there is room needs none. */
type Client = Pick<ServerResponse, 'destroyed' | 'once' | 'off'>

export class BodyRoom {
  /** Of each room. */
  readonly bytesMax: number
  readonly #small: Room
  readonly #large: Room

  /** `bytesMax` is what large bodies may come to, and small ones beside them. */
  constructor(bytesMax: number, waitMs = WAIT_MS_MAX) {
    this.bytesMax = bytesMax
    this.#small = new Room(bytesMax, waitMs)
    this.#large = new Room(bytesMax, waitMs)
  }

  /** Bytes that are held. */
  get bytes(): number {
    return this.#small.bytes + this.#large.bytes
  }
  /** Calls that wait. */
  get waiting(): number {
    return this.#small.waiting + this.#large.waiting
  }

  /** For a call that holds nothing yet. */
  place(): Place {
    return new Place(this.#small, this.#large)
  }
}

/** What one call holds. */
export class Place {
  readonly #small: Room
  readonly #large: Room
  #inSmall = 0
  #inLarge = 0
  #holders = 1

  constructor(small: Room, large: Room) {
    this.#small = small
    this.#large = large
  }

  /** Others wait for what this one holds. */
  get isWanted(): boolean {
    return (this.#inSmall > 0 && this.#small.waiting > 0) || (this.#inLarge > 0 && this.#large.waiting > 0)
  }

  /** Holds so many bytes more, at most those of a room, as soon as there is room. False: there was none in time, or the client left. */
  take(bytes: number, client: Client): boolean | Promise<boolean> {
    const room = this.#roomFor(bytes)
    const taken = room.take(bytes, client)
    if (taken === true) return this.#add(room, bytes)
    return taken === false ? false : taken.then((isIn) => isIn && this.#add(room, bytes))
  }

  /** The same of what is there already: without waiting, past those who wait. */
  takeNow(bytes: number): boolean {
    const room = this.#roomFor(bytes)
    return room.takeNow(bytes) && this.#add(room, bytes)
  }

  /** The same whether or not there is room: those who come have less. */
  takeAnyway(bytes: number): void {
    const room = this.#roomFor(bytes)
    room.bytes += bytes
    this.#add(room, bytes)
  }

  /** Another holds it, too, and leaves on its own. */
  share(): void {
    this.#holders += 1
  }

  /** To be called once by each who holds it; the last gives all of it back. */
  leave(): void {
    this.#holders -= 1
    if (this.#holders > 0) return
    this.#small.giveBack(this.#inSmall)
    this.#large.giveBack(this.#inLarge)
    this.#inSmall = this.#inLarge = 0
  }

  #roomFor(bytes: number): Room {
    return this.#inSmall + this.#inLarge + bytes < LARGE_BYTES ? this.#small : this.#large
  }

  #add(room: Room, bytes: number): true {
    if (room === this.#small) this.#inSmall += bytes
    else this.#inLarge += bytes
    return true
  }
}

class Room {
  readonly #bytesMax: number
  readonly #waitMs: number
  readonly #queue: { readonly bytes: number; readonly enter: () => void }[] = []
  bytes = 0

  constructor(bytesMax: number, waitMs: number) {
    this.#bytesMax = bytesMax
    this.#waitMs = waitMs
  }

  get waiting(): number {
    return this.#queue.length
  }

  takeNow(bytes: number): boolean {
    if (this.bytes + bytes > this.#bytesMax) return false
    this.bytes += bytes
    return true
  }

  take(bytes: number, client: Client): boolean | Promise<boolean> {
    if (bytes === 0 || (this.#queue.length === 0 && this.takeNow(bytes))) return true
    if (client.destroyed) return false
    return new Promise((resolve) => {
      const end = (isIn: boolean): void => {
        clearTimeout(timer)
        client.off('close', giveUp)
        resolve(isIn)
      }
      const waiter = { bytes, enter: () => end(true) }
      const giveUp = (): void => {
        this.#queue.splice(this.#queue.indexOf(waiter), 1)
        end(false)
        this.#letIn() // those behind it may be smaller
      }
      const timer = setTimeout(giveUp, this.#waitMs)
      client.once('close', giveUp)
      this.#queue.push(waiter)
    })
  }

  giveBack(bytes: number): void {
    this.bytes -= bytes
    this.#letIn()
  }

  #letIn(): void {
    for (let first = this.#queue[0]; first !== undefined && this.takeNow(first.bytes); first = this.#queue[0]) {
      this.#queue.shift()
      first.enter()
    }
  }
}
