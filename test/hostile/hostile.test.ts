/**
 * Bad input from both sides, for every wire: requests that no provider could read, and answers that no provider should give. The app gets
 * a clear answer in its provider's shape or what the provider sent, byte for byte; and whatever came, the books end with nothing held and
 * no more entered than was held.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { cut, events, startUpstream, whole } from './upstream.ts'
import type { Answer, Upstream } from './upstream.ts'
import { WIRES } from './wires.ts'
import type { Asked, HostileWire } from './wires.ts'

const MIB = 1024 * 1024
const BODY_BYTES_MAX = 32 * MIB
/** What no call can cost. */
const COST_MAX = parseUsd('100000.00')
/** Longer than a body of the largest size takes to read, on a machine that does much else. */
const SERVED_MEANWHILE_MIN = 3

let upstream: Upstream
let sidecar: Sidecar
before(async () => {
  upstream = await startUpstream()
  sidecar = await startSidecar(configOf('Ceiling'))
})
after(async () => {
  await sidecar.close()
  await upstream.close()
})

function configOf(onUnknownModel: SidecarConfig['onUnknownModel']): SidecarConfig {
  const common = { credential: 'Passthrough' as const, injectUsage: 'Auto' as const, deployments: [] }
  const baseUrl = `${upstream.url}/v1`
  return makeConfig('', [makeContract({ tier: 'rich', caps: { perConversation: '5000.00' } })], {
    onUnknownModel,
    upstreams: [
      { ...common, name: 'openai', provider: 'openai', baseUrl, outputLimitField: 'max_completion_tokens' },
      { ...common, name: 'azure', provider: 'azure', baseUrl: upstream.url, outputLimitField: 'max_completion_tokens' },
      { ...common, name: 'anthropic', provider: 'anthropic', baseUrl, outputLimitField: 'max_tokens' },
      { ...common, name: 'gemini', provider: 'google', baseUrl: upstream.url, outputLimitField: 'max_tokens' },
    ],
  })
}

interface Sending extends Asked {
  /** Instead of the wire's own request. */
  readonly body?: string | Uint8Array<ArrayBuffer>
  readonly headers?: Readonly<Record<string, string>>
}

interface Outcome {
  readonly status: number
  /** What the client got; null when it saw the connection cut. */
  readonly text: string | null
  /** While the call was under way. */
  readonly held: bigint
  readonly spent: bigint
  /** Settlements without the provider's final word, of this call. */
  readonly partial: number
  /** Usages that could not be as they were. */
  readonly doubts: number
}

let conversations = 0

/** One call in a conversation of its own, to its end in the books. */
async function exchange(wire: HostileWire, answer: Answer, sending: Sending = {}): Promise<Outcome> {
  conversations += 1
  const id = `c${conversations}`
  let held = 0n
  upstream.answerWith(async (response) => {
    held = parseUsd((await sidecar.standing(id)).held)
    await answer(response)
  })
  const before = await counted()
  const { status, text } = await send(wire, id, sending)
  await sidecar.idle()
  if (upstream.seen.length === 0) return { status, text, held, spent: 0n, partial: 0, doubts: 0 }
  const standing = await sidecar.standing(id)
  assert.equal(standing.held, '0.00', 'nothing is held')
  const now = await counted()
  return { status, text, held, spent: parseUsd(standing.spent), partial: now.partial - before.partial, doubts: now.doubts - before.doubts }
}

async function counted(): Promise<Pick<Outcome, 'partial' | 'doubts'>> {
  const text = await sidecar.metrics()
  return { partial: total(text, 'farebox_partial_settlements_total'), doubts: total(text, 'farebox_doubtful_usages_total') }
}

async function send(wire: HostileWire, id: string, sending: Sending): Promise<Pick<Outcome, 'status' | 'text'>> {
  const { body = wire.request(sending), headers, model = wire.model, stream = false } = sending
  const answer = await fetch(`${sidecar.url}${wire.path(model, stream)}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer test', 'x-farebox-conversation': id, ...headers },
    body,
  })
  const text = await answer.text().catch((error: unknown) => {
    if (error instanceof TypeError) return null // how `fetch` says that the connection was cut
    throw error
  })
  return { status: answer.status, text }
}

/** The sum over all series of a counter. */
function total(metrics: string, name: string): number {
  const lines = metrics.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

function assertWithinHold({ held, spent }: Outcome, what: string): void {
  assert.ok(held > 0n, what)
  assert.ok(spent >= 0n && spent <= held, `${what}: ${formatUsd(spent)} of ${formatUsd(held)}`)
}

const honest = (wire: HostileWire): string => wire.usage('9', '12')
const streams = (wire: HostileWire): boolean => wire.events(null).length > 0

for (const wire of WIRES) {
  describe(wire.name, () => {
    describe('requests', () => {
      const odd = ', "x_unknown" : {"b" :1.0e0,"a":[ 12345678901234567890 , "\\u00e9\\/é😀"], "" : null},\n\t"another":  -0.50  '

      test('unknown fields, odd numbers and white space reach the provider byte for byte, and the client in the answer', async () => {
        const body = wire.request({ more: odd })
        const answer = wire.answer(honest(wire)).replace('{', '{ "x_new" : [1.0, "\\u00e9"] ,')
        const { status, text } = await exchange(wire, whole(answer), { body })
        assert.equal(status, 200)
        assert.equal(upstream.seen.at(-1)?.toString(), body)
        assert.equal(text, answer)
      })

      test('so they do of a stream, but for the usage that the sidecar asks for', { skip: !streams(wire) }, async () => {
        const body = wire.request({ more: odd, stream: true })
        const { status } = await exchange(wire, events(wire.events(honest(wire)).join('')), { body, stream: true })
        assert.equal(status, 200)
        const sent = upstream.seen.at(-1)?.toString() ?? ''
        if (wire.injects) assert.equal(sent.replace(/,?\s*"stream_options"\s*:\s*\{"include_usage":true\}/, ''), body)
        else assert.equal(sent, body)
      })

      test('gzip is read, and the provider gets it plain', async () => {
        const body = wire.request()
        const packed = new Uint8Array(gzipSync(body))
        const outcome = await exchange(wire, whole(wire.answer(honest(wire))), { body: packed, headers: { 'content-encoding': 'gzip' } })
        assert.equal(outcome.status, 200)
        assert.equal(upstream.seen.at(-1)?.toString(), body)
      })

      for (const [name, body, field] of wire.malformed) {
        test(`${name}: 400 in the provider's shape`, async () => {
          const { status, text } = await exchange(wire, whole(wire.answer(honest(wire))), { body })
          assert.equal(status, 400, text ?? '')
          assert.equal(upstream.seen.length, 0)
          const refusal = wire.refusal(JSON.parse(text ?? ''))
          assert.equal(refusal.code, 'invalid_request')
          assert.equal(refusal.field, field)
        })
      }

      test('32 MiB and a byte: 413', async () => {
        const body = new Uint8Array(BODY_BYTES_MAX + 1).fill(0x20)
        const { status, text } = await exchange(wire, whole(''), { body })
        assert.equal(status, 413)
        assert.equal(wire.refusal(JSON.parse(text ?? '')).code, 'request_too_large')
        assert.equal(upstream.seen.length, 0)
      })

      test('31 MiB of one letter: other calls are served meanwhile', async () => {
        upstream.answerWith(whole(wire.answer(honest(wire))))
        const state = { isOver: false }
        const large = send(wire, `${wire.name} large`, { words: JSON.stringify('a'.repeat(31 * MIB)) }).finally(() => {
          state.isOver = true
        })
        let served = 0
        while (!state.isOver) {
          assert.equal((await send(wire, `${wire.name} small`, {})).status, 200)
          if (!state.isOver) served += 1
        }
        assert.equal((await large).status, 200)
        assert.ok(served >= SERVED_MEANWHILE_MIN, `${served} served`)
        await sidecar.idle()
        for (const which of ['large', 'small']) assert.equal((await sidecar.standing(`${wire.name} ${which}`)).held, '0.00')
      })
    })

    for (const stream of streams(wire) ? [false, true] : [false]) {
      const answering = (usage: string | null): Answer => (stream ? events(wire.events(usage).join('')) : whole(wire.answer(usage)))

      describe(stream ? 'streams' : 'plain answers', () => {
        test('an honest usage is settled exactly, and one of zeros at nothing', async () => {
          const outcome = await exchange(wire, answering(honest(wire)), { stream })
          assertWithinHold(outcome, 'honest')
          assert.ok(outcome.spent > 0n)
          assert.deepEqual([outcome.partial, outcome.doubts], [0, 0])
          const nothing = await exchange(wire, answering(wire.usage('0', '0')), { stream })
          assert.deepEqual([nothing.spent, nothing.partial], [0n, 0])
        })

        test('a usage whose parts are more than their whole is cut to it, and counted', async () => {
          const outcome = await exchange(wire, answering(wire.overfull), { stream })
          assertWithinHold(outcome, 'overfull')
          assert.ok(outcome.spent > 0n)
          assert.deepEqual([outcome.partial, outcome.doubts], [0, 1])
        })

        const impossible: Readonly<Record<string, string>> = {
          'negative input': wire.usage('-5', '3'),
          'negative output': wire.usage('5', '-3'),
          'a fraction of input': wire.usage('5.5', '3'),
          'a fraction of output': wire.usage('5', '3.25'),
          '1e30 of input': wire.usage('1e30', '3'),
          '1e30 of output': wire.usage('5', '1e30'),
          'more than a double holds': wire.usage('1e999', '1e999'),
          texts: wire.usage('"5"', '"3"'),
          objects: wire.usage('{}', '[]'),
          truths: wire.usage('true', 'true'),
        }
        const missing: Readonly<Record<string, string | null>> = {
          'a list': '[5,3]',
          'a text': '"much"',
          'a number': '17',
          nulls: wire.usage('null', 'null'),
          'no members': '{}',
          null: 'null',
          nothing: null,
        }
        for (const [name, usage] of [...Object.entries(impossible), ...Object.entries(missing)]) {
          if (usage === wire.usage('5', '0')) continue // a wire without output, whose usage does not speak of it
          test(`usage that is ${name}: settled from what was seen, marked, counted, within the hold`, async () => {
            const outcome = await exchange(wire, answering(usage), { stream })
            assert.equal(outcome.status, 200)
            assertWithinHold(outcome, name)
            assert.ok(outcome.spent > 0n, 'what was said was not for nothing')
            assert.equal(outcome.partial, 1)
            if (Object.hasOwn(impossible, name)) assert.equal(outcome.doubts, 1)
          })
        }

        test('the most that a usage may say: what no call can cost is charged at what was held, and the books go on', async () => {
          const outcome = await exchange(wire, answering(wire.largest), { stream })
          assert.ok(outcome.spent < COST_MAX, formatUsd(outcome.spent))
          if (outcome.doubts > 0) assert.equal(outcome.spent, outcome.held)
          else assert.ok(outcome.spent > outcome.held)
        })

        test('more tokens than were asked for: entered as they were billed, and what is above the hold apart', async () => {
          const overruns = async (): Promise<number> => total(await sidecar.metrics(), 'farebox_overrun_usd_total')
          const before = await overruns()
          const outcome = await exchange(wire, answering(wire.usage('5000', '5000')), { stream })
          assert.ok(outcome.spent > outcome.held)
          const overrun = (await overruns()) - before
          assert.equal(overrun.toFixed(9), (Number(outcome.spent - outcome.held) / 1e9).toFixed(9))
        })
      })
    }

    test('more answers than were asked for, and no usage: within the hold', async () => {
      const outcome = await exchange(wire, whole(wire.answer(null, 40)))
      assert.equal(outcome.status, 200)
      assertWithinHold(outcome, '40 answers')
    })

    describe('what is not what was asked for', () => {
      test('a web page passes, and is charged at what was held, since nobody can read it', async () => {
        const page = '<!doctype html><title>Sign in</title>'
        for (const stream of streams(wire) ? [false, true] : [false]) {
          const outcome = await exchange(wire, whole(page, 'text/html'), { stream })
          assert.equal(outcome.text, page)
          assert.equal(outcome.spent, outcome.held)
          assert.equal(outcome.partial, 1)
        }
      })

      test('an empty answer is charged at what was held', async () => {
        const outcome = await exchange(wire, whole(''))
        assert.equal(outcome.text, '')
        assert.equal(outcome.spent, outcome.held)
      })

      test(
        'a whole answer to a request for a stream, and a stream to one for an answer, count as they are',
        { skip: !streams(wire) },
        async () => {
          const { spent } = await exchange(wire, whole(wire.answer(honest(wire))))
          const unasked = await exchange(wire, whole(wire.answer(honest(wire))), { stream: true })
          assert.equal(unasked.text, wire.answer(honest(wire)))
          assert.deepEqual([formatUsd(unasked.spent), unasked.partial], [formatUsd(spent), 0])
          const stream = wire.events(honest(wire)).join('')
          const streamed = await exchange(wire, events(stream))
          assert.equal(streamed.text, stream)
          assert.deepEqual([formatUsd(streamed.spent), streamed.partial], [formatUsd(spent), 0])
        },
      )
    })

    describe('streams that end early', { skip: !streams(wire) }, () => {
      const list = wire.events(honest(wire)).map((event) => Buffer.from(event))
      const all = Buffer.concat(list)
      const boundaries = list.map((_, index) => Buffer.concat(list.slice(0, index)).length)
      const middles = list.map((event, index) => (boundaries[index] ?? 0) + Math.floor(event.length / 2))
      // The usage that only the sidecar asked for is taken out again.
      const shown = Buffer.concat(list.filter((event) => !wire.injects || !event.includes('"usage"'))).toString()
      const isBeginning = (text: string): boolean => [all.toString(), shown].some((sent) => sent.startsWith(text.replace(/\uFFFD+$/, '')))
      // 0b10xxxxxx: a byte inside a character.
      const characters = [...all.keys()].filter((index) => ((all[index] ?? 0) & 0xc0) === 0x80)

      for (const [where, places] of Object.entries({
        'at an event': boundaries,
        'inside an event': middles,
        'inside a character': characters,
      })) {
        for (const how of ['cut', 'ended'] as const) {
          test(`${how} ${where}, wherever: settled from what was seen, within the hold`, async () => {
            for (const place of places) {
              const outcome = await exchange(wire, cut(all.subarray(0, place), how), { stream: true })
              assertWithinHold(outcome, `${how} after ${place} of ${all.length} bytes`)
              assert.ok(outcome.spent > 0n, `${how} after ${place} bytes: the input at least`)
              if (how === 'cut') assert.equal(outcome.text, null, 'the client sees the cut')
              else assert.ok(isBeginning(outcome.text ?? ''), `and nothing else than was sent: ${outcome.text}`)
            }
          })
        }
      }

      test('an error in the middle of a stream reaches the client, and what was said before is settled', async () => {
        for (const count of [0, 1, list.length - 3]) {
          const before = Buffer.concat(list.slice(0, count)).toString()
          const outcome = await exchange(wire, events(before + wire.errorEvent), { stream: true })
          assert.equal(outcome.text, before + wire.errorEvent)
          assertWithinHold(outcome, `an error after ${count} events`)
          assert.equal(outcome.partial, 1)
        }
      })
    })
  })
}

describe('unknown models', () => {
  const ask = (wire: HostileWire): Promise<Outcome> =>
    exchange(wire, whole(wire.answer(honest(wire)).replaceAll(wire.model, 'mystery-9')), { model: 'mystery-9' })

  test('Ceiling: at the price of the dearest', async () => {
    await sidecar.adopt(configOf('Ceiling'))
    for (const wire of WIRES) {
      const outcome = await ask(wire)
      assert.equal(outcome.status, 200, wire.name)
      assertWithinHold(outcome, wire.name)
    }
  })

  test("Refuse: 403 in the provider's shape", async () => {
    await sidecar.adopt(configOf('Refuse'))
    for (const wire of WIRES) {
      const { status, text } = await ask(wire)
      assert.equal(status, 403, wire.name)
      assert.equal(wire.refusal(JSON.parse(text ?? '')).code, 'model_unpriced')
      assert.equal(upstream.seen.length, 0)
    }
  })

  test('Free: it passes, and costs nothing', async () => {
    await sidecar.adopt(configOf('Free'))
    for (const wire of WIRES) {
      const outcome = await ask(wire)
      assert.equal(outcome.status, 200, wire.name)
      assert.deepEqual([outcome.spent, outcome.held], [0n, 0n], wire.name)
    }
  })
})
