import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ServerTime } from './server-time.ts'

/** The server is this much ahead of how long the process runs. */
const AHEAD_MS = 1_000_000

/** Asked at `sentMs`; the question took `thereMs`, the answer `backMs`. */
function heard(time: ServerTime, { sentMs, thereMs, backMs }: { sentMs: number; thereMs: number; backMs: number }): void {
  time.hear({ sentMs, heardMs: sentMs + thereMs + backMs, serverMs: AHEAD_MS + sentMs + thereMs })
}

describe("a server's time", () => {
  test('is what is assumed until it is heard of, and then what was heard', () => {
    const time = new ServerTime(5, 0)
    assert.equal(time.at(10), 15)
    heard(time, { sentMs: 100, thereMs: 2, backMs: 2 })
    assert.equal(time.at(200), AHEAD_MS + 200)
  })

  test('is not believed where one way took long: it would be wrong by half of that', () => {
    const time = new ServerTime(0, 0)
    heard(time, { sentMs: 100, thereMs: 1, backMs: 1 })
    heard(time, { sentMs: 200, thereMs: 1_700, backMs: 1 })
    heard(time, { sentMs: 2_000, thereMs: 1, backMs: 1_700 })
    assert.equal(time.at(4_000), AHEAD_MS + 4_000)
  })

  test('is taken from a slow network where nothing better is known, and is then no more wrong than half of the way', () => {
    const time = new ServerTime(0, 0)
    heard(time, { sentMs: 0, thereMs: 300, backMs: 0 })
    assert.equal(time.at(1_000), AHEAD_MS + 1_150)
    heard(time, { sentMs: 2_000, thereMs: 200, backMs: 0 })
    assert.equal(time.at(3_000), AHEAD_MS + 3_100)
  })

  test('grows doubtful: after some time a slower answer counts, since the clocks drift apart', () => {
    const time = new ServerTime(0, 0)
    heard(time, { sentMs: 0, thereMs: 1, backMs: 1 })
    time.hear({ sentMs: 60_000, heardMs: 60_008, serverMs: AHEAD_MS + 60_014 })
    assert.equal(time.at(60_004), AHEAD_MS + 60_014)
  })

  test('of another server is believed at once', () => {
    const time = new ServerTime(0, 0)
    heard(time, { sentMs: 0, thereMs: 1, backMs: 1 })
    time.forget()
    time.hear({ sentMs: 10, heardMs: 110, serverMs: 7 })
    assert.equal(time.at(60), 7)
  })
})
