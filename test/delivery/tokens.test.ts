/** Who may speak to the delivery listener, and what it does with what should never come. */
import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:https'
import { connect } from 'node:net'
import { json } from 'node:stream/consumers'
import { after, before, describe, test } from 'node:test'
import { DELIVERY_PROTOCOL, FORWARDED_PATH, REPORT_BYTES_MAX, REPORTS_PATH, STREAM_HEADERS, STREAM_PATH } from '@farebox/crds/delivery.ts'
import type { ReceivedReport, SidecarReport } from '@farebox/crds/delivery.ts'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import { totalsOf } from '@farebox/operator/core/reports.testing.ts'
import { Forwarder } from '@farebox/operator/delivery/forwarder.ts'
import { setTimeout as sleep } from 'node:timers/promises'
import { startOperator } from '../support/operator-delivery.ts'
import type { TestOperator, TestPod } from '../support/operator-delivery.ts'
import { waitFor } from '../support/wait-for.ts'

let operator: TestOperator
let pod: TestPod
before(async () => {
  operator = await startOperator({ podWaitMs: 300 })
  pod = operator.addPod('app-1')
})
after(() => operator.close())

interface Answer {
  readonly status: number
  readonly error: string
}

function ask(
  path: string,
  authorization: string | null,
  options: { readonly body?: string; readonly headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(
      new URL(path, operator.url),
      {
        ca: operator.ca,
        agent: false,
        method: options.body === undefined ? 'GET' : 'POST',
        headers: {
          ...(authorization === null ? {} : { authorization }),
          [STREAM_HEADERS.protocol]: String(DELIVERY_PROTOCOL),
          ...options.headers,
        },
      },
      (answer) => {
        const status = answer.statusCode ?? 0
        if (status === 200) {
          answer.destroy()
          return resolve({ status, error: '' })
        }
        let text = ''
        answer.setEncoding('utf8')
        answer.on('data', (chunk: string) => {
          text += chunk
        })
        answer.on('end', () => resolve({ status, error: (JSON.parse(text) as { error?: string }).error ?? '' }))
      },
    )
    asked.on('error', reject)
    asked.end(options.body)
  })
}

/** What a report is answered. */
function answerTo(authorization: string, body: SidecarReport): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const options = { ca: operator.ca, agent: false, method: 'POST', headers: { authorization } }
    const asked = request(new URL(REPORTS_PATH, operator.url), options, (answer) => void json(answer).then(resolve, reject))
    asked.on('error', reject)
    asked.end(JSON.stringify(body))
  })
}

function report(parts: Partial<SidecarReport> = {}): SidecarReport {
  return {
    protocol: DELIVERY_PROTOCOL,
    run: 'ab'.repeat(16),
    runSinceMs: 1_000,
    sequence: 1,
    sidecarVersion: '0.1.0',
    inForce: null,
    refused: null,
    staleMs: null,
    books: 'books',
    status: null,
    turns: { count: 0, lastMs: null, withoutUser: 0 },
    heldKeys: [],
    bypass: { looks: 0, found: 0, lastSeen: null, lastMs: null },
    ...parts,
  }
}

describe('T65: a token', () => {
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const nowS = Math.floor(Date.now() / 1_000)
  const cases: Readonly<Record<string, readonly [authorization: () => string | null, status: number, error: RegExp]>> = {
    'of a pod that is there is taken': [() => `Bearer ${operator.token(pod)}`, 200, /^$/],
    'that expired less than a minute ago is taken': [() => `Bearer ${operator.token(pod, { exp: nowS - 30 })}`, 200, /^$/],
    'that is missing': [() => null, 401, /bearer token is needed/],
    'that is malformed': [() => 'Bearer not-a-token', 401, /no bearer token/],
    'of another kind': [() => 'Basic dXNlcjpwYXNz', 401, /no bearer token/],
    'of three words that say nothing': [() => 'Bearer a.b.c', 401, /cannot be read/],
    'for another audience': [
      () => `Bearer ${operator.token(pod, { aud: ['https://kubernetes.default.svc'] })}`,
      401,
      /not for farebox\.dev\/delivery/,
    ],
    'without audience': [() => `Bearer ${operator.token(pod, { aud: undefined })}`, 401, /not for/],
    'that has expired': [() => `Bearer ${operator.token(pod, { exp: nowS - 120 })}`, 401, /has expired/],
    'without an end': [() => `Bearer ${operator.token(pod, { exp: undefined })}`, 401, /exp/],
    'of another issuer': [() => `Bearer ${operator.token(pod, { iss: 'https://elsewhere' })}`, 401, /another issuer/],
    'signed by somebody else': [() => `Bearer ${operator.token(pod, {}, other)}`, 401, /signature is wrong/],
    'of no pod': [() => `Bearer ${operator.token(null)}`, 403, /bound to no pod/],
    'of a pod that is gone': [() => `Bearer ${operator.token({ ...pod, name: 'app-9' })}`, 403, /no pod shop\/app-9 .* gone/],
    'of a former pod of that name': [() => `Bearer ${operator.token({ ...pod, uid: 'former' })}`, 403, /gone/],
    'of a pod of another namespace': [() => `Bearer ${operator.token({ ...pod, namespace: 'other' })}`, 403, /no pod other\/app-1/],
    'without the claims of a service account': [
      () => `Bearer ${operator.token(pod, { 'kubernetes.io': undefined })}`,
      403,
      /service account/,
    ],
  }
  for (const [name, [authorization, status, error]] of Object.entries(cases)) {
    test(name, async () => {
      const answer = await ask(STREAM_PATH, authorization())
      assert.deepEqual([answer.status, error.test(answer.error)], [status, true], answer.error)
      if (status === 200) return
      const posted = await ask(REPORTS_PATH, authorization(), { body: JSON.stringify(report()) })
      assert.equal(posted.status, status)
    })
  }

  test('of a pod that the cache hears of a moment later is waited for', async () => {
    const late = { namespace: 'shop', name: 'late', uid: 'late-uid' }
    const answer = ask(STREAM_PATH, `Bearer ${operator.token(late)}`)
    await sleep(100)
    operator.addPod(late.name, late.namespace, late.uid)
    assert.equal((await answer).status, 200)
  })

  test('T66: is checked by the keys that are known while the API server is away, by a hundred at once', async () => {
    operator.setApiServer(false)
    const fetched = operator.count('jwksFetched') + operator.count('jwksFailed')
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => ask(REPORTS_PATH, `Bearer ${operator.token(pod)}`, { body: JSON.stringify(report()) })),
    )
    assert.ok(answers.every(({ status }) => status === 202))
    const unknown = operator.token(pod).split('.')
    unknown[0] = Buffer.from(JSON.stringify({ alg: 'ES256', kid: 'two' })).toString('base64url')
    const asked = await Promise.all(Array.from({ length: 50 }, () => ask(STREAM_PATH, `Bearer ${unknown.join('.')}`)))
    assert.ok(asked.every(({ status, error }) => status === 401 && error.includes('a key that the cluster does not have')))
    assert.ok(operator.count('jwksFetched') + operator.count('jwksFailed') - fetched <= 1, 'the API server is not asked for each')
    operator.setApiServer(true)
  })
})

describe('a report', () => {
  const send = (body: string, headers: Record<string, string> = {}): Promise<Answer> =>
    ask(REPORTS_PATH, `Bearer ${operator.token(pod)}`, { body, headers })

  const status = (tiers: Readonly<Record<string, unknown>>): SidecarReport['status'] =>
    ({
      config: { budget: 'shop/support', mode: 'Enforce', version: 1, hash: 'h' },
      rejected: null,
      tiers,
      callsInFlight: 0,
      store: { kind: 'Shared', state: 'Ready', reason: null, since: '', unsent: 0 },
    }) as SidecarReport['status']
  /** Of a tier that somebody used, but for what is given. */
  const tier = (parts: Partial<TierTotals> = {}): TierTotals =>
    totalsOf({ conversations: 1, turns: 1, byRung: { None: 1 }, spent: '1.00', ...parts })
  const TURNS = { count: 7, lastMs: 1_000, withoutUser: 0 }

  test('T68: that is replayed or comes late counts once: the newest of the newest run', async () => {
    const sent = [
      report({ sequence: 1, runSinceMs: 2_000, books: 'a' }),
      report({ sequence: 3, runSinceMs: 2_000, books: 'c' }),
      report({ sequence: 2, runSinceMs: 2_000, books: 'b' }),
      report({ sequence: 3, runSinceMs: 2_000, books: 'again' }),
      report({ sequence: 9, runSinceMs: 1_500, books: 'of an earlier run' }),
    ]
    for (const one of sent) assert.equal((await send(JSON.stringify(one))).status, 202)
    assert.equal(operator.report(pod)?.books, 'c')
    await send(JSON.stringify(report({ sequence: 1, runSinceMs: 3_000, run: 'cd'.repeat(16), books: 'of the next run' })))
    assert.equal(operator.report(pod)?.books, 'of the next run')
    assert.equal([...operator.book.values()].filter(({ pod: { uid } }) => uid === pod.uid).length, 1)
  })

  test('is answered with whether the next one is to have totals: of those who share books one is asked', async () => {
    const said = async (name: string, books: string, more: Partial<SidecarReport> = { status: status({}) }): Promise<unknown> => {
      return await answerTo(`Bearer ${operator.token(operator.addPod(name))}`, report({ books, ...more }))
    }
    assert.deepEqual(await said('waiting', 'shared', { status: null }), { totals: false }, 'it has no config yet')
    assert.deepEqual(await said('share-1', 'shared'), { totals: true })
    assert.deepEqual(await said('share-2', 'shared'), { totals: false })
    assert.deepEqual(await said('share-3', 'others'), { totals: true })
  })

  test('of a pod that no budget governs is asked for no totals, keeps nobody else from telling, and is kept short', async () => {
    const governed = new Set<string>()
    const strict = await startOperator({ server: { tiersOf: ({ name }) => (governed.has(name) ? ['pro'] : null) } })
    const former = operator
    try {
      operator = strict
      const [left, other] = [strict.addPod('left'), strict.addPod('other')]
      let sequence = 0
      const said = async (its: TestPod): Promise<unknown> =>
        await answerTo(`Bearer ${strict.token(its)}`, report({ sequence: ++sequence, status: status({ pro: tier() }), turns: TURNS }))
      governed.add('other')
      assert.deepEqual(await said(left), { totals: false })
      assert.deepEqual(await said(other), { totals: true }, 'nobody else tells')
      assert.partialDeepStrictEqual(strict.report(left), { status: null, turns: TURNS }, 'it may be governed for all that others know')
      assert.partialDeepStrictEqual(strict.report(other), { status: { tiers: { pro: { spent: '1.00' } } } })
      governed.delete('other') // the one who told so far
      assert.deepEqual(await said(other), { totals: false })
    } finally {
      operator = former
      await strict.close()
    }
  })

  test('that is none is answered with what is wrong', async () => {
    assert.deepEqual(await send('{'), { status: 422, error: 'report: Invalid input: expected object, received undefined' })
    const named = await send(JSON.stringify({ ...report(), sequence: 'first' }))
    assert.equal(named.status, 422)
    assert.match(named.error, /^sequence: /)
  })

  const keys = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`k${index}`, 1]))

  for (const [what, tiers, error] of [
    ['counts below zero', { pro: tier({ conversations: -1 }) }, /^status\.tiers\.pro: each count/],
    ['counts whose sums would not be exact', { pro: tier({ byRung: { None: Number.MAX_SAFE_INTEGER } }) }, /each count/],
    ['maps without end', { pro: tier({ alerts: keys }) }, /alerts: must have at most 64 keys/],
    ['tiers without end', Object.fromEntries(Array.from({ length: 257 }, (_, index) => [`t${index}`, tier()])), /at most 256/],
  ] as const) {
    test(`with ${what} is refused`, async () => {
      const answer = await send(JSON.stringify(report({ runSinceMs: 8_000, status: status(tiers) })))
      assert.deepEqual([answer.status, error.test(answer.error)], [422, true], answer.error)
    })
  }

  test('of 10 MB is answered 413, whether its length is told or not', async () => {
    const large = JSON.stringify({ ...report(), books: 'x'.repeat(10 * 1024 * 1024) })
    const wanted = { status: 413, error: `a report has at most ${REPORT_BYTES_MAX} bytes` }
    assert.deepEqual(await send(large), wanted)
    assert.deepEqual(await send(large, { 'transfer-encoding': 'chunked' }), wanted)
    assert.equal(operator.count('reportTooLarge'), 2)
  })
})

describe('who asks too much', () => {
  test('of a pod gets a 429, and others are served as ever', async () => {
    const greedy = operator.addPod('greedy')
    const body = JSON.stringify(report({ books: 'b'.repeat(128), sidecarVersion: 'x' }))
    const padded = `${body}${' '.repeat(REPORT_BYTES_MAX - body.length)}`
    const asked = Array.from({ length: 12 }, () => ask(REPORTS_PATH, `Bearer ${operator.token(greedy)}`, { body: padded }))
    const statuses = (await Promise.all(asked)).map(({ status }) => status)
    assert.ok(statuses.includes(202) && statuses.includes(429), statuses.join())
    let streams = 0
    while ((await ask(STREAM_PATH, `Bearer ${operator.token(greedy)}`)).status === 200) streams++
    assert.ok(streams < 40, 'or comes and comes again')
    assert.ok(operator.count('podBusy') > 1)
    const modest = operator.addPod('modest')
    assert.equal((await ask(REPORTS_PATH, `Bearer ${operator.token(modest)}`, { body })).status, 202)
    assert.equal((await ask(STREAM_PATH, `Bearer ${operator.token(modest)}`)).status, 200)
  })

  test('without a good token keeps no sidecar out: it takes nothing of what may come within a second', async () => {
    const strict = await startOperator({ hub: { acceptsPerSecond: 1 } })
    const former = operator
    try {
      operator = strict
      const its = strict.addPod('app-1')
      const strangers = await Promise.all(Array.from({ length: 20 }, () => ask(STREAM_PATH, 'Bearer a.b.c')))
      assert.ok(strangers.every(({ status }) => status === 401))
      const twice = await Promise.all([0, 1].map(() => ask(STREAM_PATH, `Bearer ${strict.token(its)}`)))
      assert.deepEqual(
        twice.map(({ status }) => status).toSorted((one, other) => one - other),
        [200, 503],
      )
    } finally {
      operator = former
      await strict.close()
    }
  })

  test('by connections is cut off, and is served again when some of them are closed', async () => {
    const small = await startOperator({ server: { connectionsOfAddressMax: 5, connectionsMax: 100 } })
    const { port } = new URL(small.url)
    const sockets = Array.from({ length: 8 }, () => connect(Number(port), '127.0.0.1').on('error', () => undefined))
    const former = operator
    try {
      const cut = sockets.map((socket) => once(socket, 'close'))
      await Promise.race(cut)
      while (small.count('connectionRefused') < 3) await sleep(5)
      operator = small
      await assert.rejects(ask('/healthz', null))
      for (const socket of sockets) socket.destroy()
      await waitFor('it serves again', async () => (await ask('/healthz', null)).status === 200, { withinMs: 5_000 })
    } finally {
      for (const socket of sockets) socket.destroy()
      operator = former
      await small.close()
    }
  })
})

describe('T67: a sidecar', () => {
  const hello = (protocol: string, schemas = '1'): Promise<Answer> =>
    ask(STREAM_PATH, `Bearer ${operator.token(pod)}`, {
      headers: { [STREAM_HEADERS.protocol]: protocol, [STREAM_HEADERS.schemas]: schemas },
    })

  test('of a later protocol is told so, and one that names none is no sidecar', async () => {
    const late = await hello(String(DELIVERY_PROTOCOL + 1))
    assert.deepEqual([late.status, /older than/.test(late.error)], [426, true])
    assert.equal((await hello('soon')).status, 400)
  })

  test('two protocols behind is served, one three behind is not', async () => {
    const ahead = await startOperator({ hub: { protocol: DELIVERY_PROTOCOL + 2 } })
    const further = await startOperator({ hub: { protocol: DELIVERY_PROTOCOL + 3 } })
    const former = operator
    try {
      for (const [next, status] of [
        [ahead, 200],
        [further, 426],
      ] as const) {
        operator = next
        pod = next.addPod('app-1')
        assert.equal((await hello(String(DELIVERY_PROTOCOL))).status, status)
      }
    } finally {
      operator = former
      pod = former.addPod('app-1')
      await ahead.close()
      await further.close()
    }
  })
})

describe('reports passed on between replicas', () => {
  const forwarded = (namespace = 'shop', uid = pod.uid): string =>
    JSON.stringify({
      reports: [{ pod: { namespace, name: 'app-1', uid }, receivedAtMs: 1, report: report({ runSinceMs: 9_000, books: 'passed on' }) }],
    })

  test('are believed of our own service account alone, and of pods that are there', async () => {
    const own = `Bearer ${operator.token(null)}`
    assert.equal((await ask(FORWARDED_PATH, `Bearer ${operator.token(pod)}`, { body: forwarded() })).status, 403)
    assert.equal((await ask(FORWARDED_PATH, null, { body: forwarded() })).status, 401)
    assert.equal((await ask(FORWARDED_PATH, own, { body: forwarded('shop', 'gone') })).status, 202)
    assert.equal(operator.book.get('gone'), undefined)
    const more = JSON.parse(forwarded()) as { reports: unknown[] }
    more.reports.unshift({ pod, receivedAtMs: 1, report: { ...report(), sequence: 'of another version' } })
    assert.equal((await ask(FORWARDED_PATH, own, { body: JSON.stringify(more) })).status, 202)
    assert.equal(operator.report(pod)?.books, 'passed on', 'though another of the same batch could not be read')
  })

  test('reach whoever leads when somebody does, the newest of each pod', async () => {
    let isLeader = false
    const leader = await startOperator({ server: { isLeader: () => isLeader } })
    const its = leader.addPod('app-1')
    let place: string | null = null
    const events = { count: () => undefined, log: () => undefined }
    const forwarder = new Forwarder({
      leader: () => place,
      ca: () => leader.ca,
      serverName: 'farebox-operator.farebox.svc',
      token: () => leader.token(null),
      events,
      nowMs: Date.now,
      batchMs: 10,
    })
    const say = (sequence: number): ReceivedReport => ({ pod: its, receivedAtMs: sequence, report: report({ sequence }) })
    try {
      forwarder.add(say(1)) // nobody leads
      await sleep(100)
      place = new URL(leader.url).host.replace('localhost', '127.0.0.1')
      forwarder.add(say(2)) // the one who is thought to lead does not
      await sleep(500)
      assert.equal(leader.book.size, 0)
      isLeader = true
      forwarder.add(say(3))
      assert.equal((await leader.untilReport(its, () => true)).sequence, 3)
    } finally {
      forwarder.close()
      await leader.close()
    }
  })

  test('are received when they came, by the clock of the leader, whatever that of who passes them on shows', async () => {
    const leaderMs = Date.now() // also when tokens are checked
    const leader = await startOperator({ server: { nowMs: () => leaderMs } })
    const passOn = (senderMs: number): Forwarder =>
      new Forwarder({
        leader: () => new URL(leader.url).host.replace('localhost', '127.0.0.1'),
        ca: () => leader.ca,
        serverName: 'farebox-operator.farebox.svc',
        token: () => leader.token(null),
        events: { count: () => undefined, log: () => undefined },
        nowMs: () => senderMs,
        batchMs: 10,
      })
    try {
      for (const [name, aheadMs, waitedMs] of [
        ['behind', -90_000, 2_000],
        ['ahead', 90_000, 2_000],
        ['set-back-meanwhile', 0, -5_000],
      ] as const) {
        const its = leader.addPod(name)
        const senderMs = leaderMs + aheadMs
        const forwarder = passOn(senderMs)
        forwarder.add({ pod: its, receivedAtMs: senderMs - waitedMs, report: report() })
        await leader.untilReport(its, () => true)
        forwarder.close()
        assert.equal(leader.book.get(its.uid)?.receivedAtMs, leaderMs - Math.max(0, waitedMs), name)
      }
      const older = leader.addPod('older')
      const body = JSON.stringify({ reports: [{ pod: older, receivedAtMs: 7, report: report() }] })
      const former = operator
      operator = leader
      const { status } = await ask(FORWARDED_PATH, `Bearer ${leader.token(null)}`, { body }).finally(() => (operator = former))
      assert.deepEqual([status, leader.book.get(older.uid)?.receivedAtMs], [202, 7], 'an older version sends no time')
    } finally {
      await leader.close()
    }
  })

  test('beyond what may wait, the pod that waited longest is dropped and counted', async () => {
    let dropped = 0
    const forwarder = new Forwarder({
      leader: () => null,
      ca: () => operator.ca,
      serverName: 'x',
      token: () => '',
      events: { count: (what) => (dropped += what === 'forwardDropped' ? 1 : 0), log: () => undefined },
      nowMs: Date.now,
      queueMax: 2,
    })
    for (const uid of ['a', 'b', 'a', 'c', 'd'])
      forwarder.add({ pod: { namespace: 'n', name: uid, uid }, receivedAtMs: 1, report: report() })
    assert.equal(dropped, 2)
    forwarder.close()
  })
})
