import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { Redis } from 'ioredis'
import type { Link } from './link.ts'
import { ServerClock } from './server-clock.ts'

const START_MS = Date.parse('2026-11-24T10:00:00Z')
/** Longer than any answer of these tests is on its way. */
const WAY_MS_MAX = 300
/** Longer than any schedule that is made up. */
const SCHEDULE_MS_MAX = 7_000_000
const DRIFT = 1e-4

/** The world as it is: what the server's clock shows, and how long it all lasts. */
class World {
  serverMs = START_MS
  /** What the server's clock shows now, or would if it had gone on from the highest that it ever showed. */
  highestMs = START_MS
  /** What the scripts of a tag keep. */
  tagMs = 0
  readonly sidecars: Sidecar[] = []

  /** `suspended`: one whose host stands still meanwhile, and so does what tells it how long it runs. */
  pass(ms: number, suspended: Sidecar | null = null): void {
    this.serverMs += ms
    this.highestMs += ms
    for (const sidecar of this.sidecars) if (sidecar !== suspended) sidecar.ranMs += ms * (1 + sidecar.drift)
  }

  setServer(byMs: number): void {
    this.serverMs += byMs
    this.highestMs = Math.max(this.highestMs, this.serverMs)
  }

  async join(drift = 0): Promise<Sidecar> {
    const sidecar = new Sidecar(this, drift)
    this.sidecars.push(sidecar)
    await sidecar.begin()
    return sidecar
  }
}

class Sidecar {
  readonly #world: World
  readonly drift: number
  ranMs = 0
  wayMs: readonly [there: number, back: number] = [1, 1]
  readonly clock: ServerClock

  constructor(world: World, drift: number) {
    this.#world = world
    this.drift = drift
    this.clock = new ServerClock(() => this.ranMs)
    this.clock.stop()
  }

  async begin(): Promise<void> {
    await this.clock.follow(this.link())
    this.step()
  }

  link(): Pick<Link, 'ask'> {
    const client = {
      time: async () => {
        this.#world.pass(this.wayMs[0])
        const shown = this.#world.serverMs
        this.#world.pass(this.wayMs[1])
        return [Math.floor(shown / 1_000), Math.floor((shown % 1_000) * 1_000)]
      },
    }
    return { ask: (command) => command(client as unknown as Redis) }
  }

  async ask(there = 1, back = 1): Promise<void> {
    this.wayMs = [there, back]
    await this.clock.ask()
  }

  /** Any step: the tag's clock takes the later of both, and tells it. Answers what the store's time is for this sidecar then. */
  step(): number {
    this.#world.tagMs = Math.max(this.#world.tagMs, this.clock.now())
    this.clock.raise(this.#world.tagMs)
    return this.clock.now()
  }
}

describe("the time by the server's clock", () => {
  test('is brought forward once where a host was suspended, whatever the others had shown it', async () => {
    const world = new World()
    const [one, suspended] = [await world.join(), await world.join()]
    world.pass(120_000, suspended)
    one.step()
    suspended.step()
    await suspended.ask()
    suspended.step()
    assertNear(world.tagMs, world.serverMs, 10)
    assertNear(suspended.clock.now(), world.serverMs, 10)
  })

  test('is brought forward by a slow answer too, where what is known cannot be true', async () => {
    const world = new World()
    const suspended = await world.join()
    world.pass(120_000, suspended)
    await suspended.ask(100, 50)
    assertNear(suspended.step(), world.serverMs, 30)
  })

  test('follows a step of the server once, however many sidecars share it', async () => {
    const world = new World()
    for (let count = 0; count < 5; count++) await world.join()
    world.setServer(1_000)
    for (const sidecar of world.sidecars) {
      await sidecar.ask()
      for (const other of world.sidecars) other.step()
    }
    assertNear(world.tagMs, world.serverMs, 10)
  })

  test('goes on at its own pace when the clock of the server is set back', async () => {
    const world = new World()
    const one = await world.join()
    const beforeMs = one.step()
    world.setServer(-300_000)
    for (let seconds = 0; seconds < 90; seconds += 10) {
      world.pass(10_000)
      await one.ask()
    }
    assertNear(one.step(), beforeMs + 90_000, 120)
    world.pass(400_000_000)
    await one.ask()
    assertNear(one.step(), world.serverMs, 10)
  })

  test('is one for who was there when the clock of the server was set back and for who starts after that', async () => {
    const world = new World()
    const former = await world.join(DRIFT / 2)
    world.setServer(-300_000)
    world.pass(10_000)
    const later = await world.join(-DRIFT / 2)
    for (let hours = 0; hours <= 96; hours++) {
      for (const sidecar of world.sidecars) {
        await sidecar.ask()
        sidecar.step()
      }
      assertNear(former.clock.now(), later.clock.now(), 10)
      world.pass(3_600_000)
    }
    assertNear(former.step(), world.serverMs, 1_000)
  })

  test('is not driven ahead by sidecars whose time goes faster than that of the server', async () => {
    const world = new World()
    await world.join(DRIFT / 2)
    await world.join(-DRIFT / 2)
    for (let asked = 0; asked < 2_000; asked++) {
      world.pass(10_000)
      for (const sidecar of world.sidecars) {
        await sidecar.ask(asked % 3, 1)
        sidecar.step()
      }
    }
    assertNear(world.tagMs, world.serverMs, 20)
  })

  test("of a machine's own is forgotten when a server tells the time for the first time, though it did not when it was asked before", async () => {
    const clock = new ServerClock(() => 0)
    clock.stop()
    assertNear(clock.now(), Date.now(), 60_000)
    await assert.rejects(clock.follow({ ask: () => Promise.reject(new Error('away')) }), /away/)
    await clock.follow({ ask: (command) => command({ time: async () => [7, 0] } as unknown as Redis) })
    assert.equal(clock.now(), 7_000)
  })

  test('is not that of a server which is followed no more', async () => {
    const clock = new ServerClock(() => 0)
    clock.stop()
    const { promise, resolve } = Promise.withResolvers<[number, number]>()
    const former = clock.follow({ ask: (command) => command({ time: () => promise } as unknown as Redis) })
    await clock.follow({ ask: (command) => command({ time: async () => [7, 0] } as unknown as Redis) })
    resolve([9_000, 0])
    await former
    assert.equal(clock.now(), 7_000)
  })

  test('is at most what the server shows, or has gone on from the highest that it showed, whatever happens', async () => {
    const ms = fc.integer({ min: 1, max: 100_000 })
    const way = fc.integer({ min: 0, max: WAY_MS_MAX / 2 })
    const who = fc.nat({ max: 3 })
    const move = fc.oneof(
      fc.record({ kind: fc.constant('pass' as const), ms }),
      fc.record({ kind: fc.constant('suspend' as const), who, ms }),
      fc.record({ kind: fc.constant('set' as const), byMs: fc.integer({ min: -600_000, max: 600_000 }) }),
      fc.record({ kind: fc.constant('ask' as const), who, there: way, back: way }),
      fc.record({ kind: fc.constant('step' as const), who }),
    )
    const drifts = fc.array(fc.double({ min: -DRIFT / 2, max: DRIFT / 2, noNaN: true }), { minLength: 4, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(drifts, fc.array(move, { maxLength: 60, size: 'max' }), async (all, moves) => {
        const world = new World()
        for (const drift of all) await world.join(drift)
        const shown = all.map(() => 0)
        for (const step of moves) {
          const sidecar = 'who' in step ? world.sidecars[step.who] : undefined
          if (step.kind === 'pass') world.pass(step.ms)
          else if (step.kind === 'set') world.setServer(step.byMs)
          else if (step.kind === 'suspend') world.pass(step.ms, sidecar)
          else if (step.kind === 'ask') await sidecar?.ask(step.there, step.back)
          if (step.kind === 'step' && sidecar !== undefined) {
            const nowMs = sidecar.step()
            assert.ok(nowMs >= (shown[step.who] ?? 0) && nowMs >= world.tagMs)
            shown[step.who] = nowMs
          }
          const aheadMs = world.tagMs - world.highestMs
          assert.ok(aheadMs <= WAY_MS_MAX / 2 + SCHEDULE_MS_MAX * DRIFT, `${aheadMs} ms ahead`)
        }
        for (const sidecar of world.sidecars) {
          await sidecar.ask(0, 0)
          sidecar.step()
        }
        assert.ok(world.tagMs >= world.serverMs - 2, 'it keeps up')
      }),
    )
  })
})

function assertNear(actualMs: number, expectedMs: number, byMs: number): void {
  assert.ok(Math.abs(actualMs - expectedMs) <= byMs, `${actualMs} is not ${expectedMs}, give or take ${byMs}: ${actualMs - expectedMs}`)
}
