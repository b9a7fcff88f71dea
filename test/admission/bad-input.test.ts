/** What should never come comes all the same, to the ports of the real operator: it says no, and goes on. */
import assert from 'node:assert/strict'
import { createPrivateKey, generateKeyPairSync, randomUUID, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { TOKEN_AUDIENCE } from '@farebox/crds/cluster.ts'
import { REPORT_BYTES_MAX, REPORTS_PATH, STREAM_PATH } from '@farebox/crds/delivery.ts'
import type { SidecarReport } from '@farebox/crds/delivery.ts'
import type { TierTotals } from '@farebox/crds/sidecar-status.ts'
import { selfSigned } from '@farebox/sidecar/proxy/certificates.testing.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { waitFor } from '../support/wait-for.ts'
import { apply, budgetOf, budgetPath, conditionOf, configIn, configMapPath, shown, tierOf, tierPath, untilSaid } from '../operator/plans.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { freshNamespace, ownCluster } from '../support/cluster.ts'
import { makeReport, openStream, sendReport } from '../support/fake-sidecar.ts'
import type { Listener } from '../support/fake-sidecar.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import type { Operator } from '../support/operator.ts'
import { boundToken, createPod, sidecarOf, startPodSidecar } from '../support/pod-sidecar.ts'

const cluster = await ownCluster()
const SHOP = 'shop'
/** Of somebody else, with a budget of its own. */
const NEIGHBOUR = 'neighbour'
const LARGE = 10 * 1_048_576
const REPLAYS = 20
const MODEL = 'gpt-4o-mini'

describe('an operator that is told nonsense', { skip: cluster === null ? 'there is no control plane' : false }, () => {
  const api = cluster as Cluster
  let operator: Operator
  let provider: Provider
  let listener: Listener
  before(async () => {
    provider = await startProvider()
    operator = await startOperator(api, await install(api))
    for (const name of [SHOP, NEIGHBOUR]) {
      const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name } }
      assert.equal((await api.request({ method: 'POST', path: '/api/v1/namespaces', body })).status, 201)
    }
    await apply(api, tierOf('pro'), budgetOf(SHOP, 'desk', 'pro'), budgetOf(NEIGHBOUR, 'desk', 'pro'))
    for (const name of [SHOP, NEIGHBOUR]) {
      await untilSaid(api, budgetPath(name, 'desk'), ['Ready=True'])
      const path = `/api/v1/namespaces/${name}/serviceaccounts/default`
      await waitFor(`the service account of ${name}`, async () => (await api.request({ path })).status === 200)
    }
    const map = await shown(api, configMapPath(SHOP, 'desk'))
    listener = { url: operator.deliveryUrl, ca: map?.data?.['ca.crt'] ?? '' }
  })
  after(async () => {
    await operator?.kill()
    await provider?.close()
    await api.stop()
  })

  /** To the webhook, as the API server would. */
  const review = (body: string | Buffer, options: { readonly method?: string; readonly path?: string; readonly headers?: object } = {}) =>
    new Promise<{ readonly status: number; readonly text: string }>((resolve, reject) => {
      const { method = 'POST', path = '/v1/pods', headers = {} } = options
      const asked = request(
        new URL(path, operator.webhookUrl),
        { ca: listener.ca, method, agent: false, headers: { 'content-type': 'application/json', ...headers } },
        (answer) => {
          let text = ''
          answer.setEncoding('utf8')
          answer.on('data', (chunk: string) => {
            text += chunk
          })
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
        },
      )
      asked.on('error', reject)
      asked.end(body)
    })
  const pod = { metadata: { name: 'x', labels: { app: 'desk' } }, spec: { containers: [{ name: 'app', image: 'app:1' }] } }
  const reviewOf = (request: object): string =>
    JSON.stringify({
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      request: { uid: 'u', kind: { group: '', version: 'v1', kind: 'Pod' }, namespace: SHOP, operation: 'CREATE', object: pod, ...request },
    })
  /** It goes on: by its own answer, and by what the API server makes of it. */
  const goesOn = async (): Promise<void> => {
    const { status, text } = await review(reviewOf({ dryRun: true }))
    assert.equal(status, 200)
    assert.match(text, /"patchType":"JSONPatch"/)
    assert.equal(await operator.isReady(), true)
    const body = { apiVersion: 'v1', kind: 'Pod', ...pod }
    const path = `/api/v1/namespaces/${SHOP}/pods?dryRun=All`
    const stored = await api.request<{ spec: { initContainers?: unknown[] } }>({ method: 'POST', path, body })
    assert.equal(stored.body.spec.initContainers?.length, 1)
  }

  test('a malformed AdmissionReview is answered 400 with what must be', async () => {
    const cases: Readonly<Record<string, readonly [body: string | Buffer, status: number, message: RegExp]>> = {
      nothing: ['', 400, /must be an AdmissionReview/],
      'no JSON': ['{"apiVersion":', 400, /must be an AdmissionReview as JSON/],
      bytes: [Buffer.from([0xff, 0x00, 0x80]), 400, /must be an AdmissionReview as JSON/],
      'another kind': ['{"apiVersion":"v1","kind":"Pod"}', 400, /must be an AdmissionReview of admission\.k8s\.io\/v1/],
      'an older version': [reviewOf({}).replace('k8s.io/v1', 'k8s.io/v1beta1'), 400, /apiVersion/],
      'no request': ['{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', 400, /request/],
      'no object': [reviewOf({ object: undefined }), 400, /request\.object/],
      'null for an object': [reviewOf({ object: null }), 400, /request\.object must be a Pod/],
      'an object that is none': [reviewOf({ object: { metadata: {}, spec: { containers: 'many' } } }), 400, /spec\.containers/],
      'a pod in too many brackets': ['['.repeat(100_000), 400, /must be an AdmissionReview/],
      'a request for something else': [reviewOf({ kind: { group: 'apps', version: 'v1', kind: 'Deployment' } }), 200, /"allowed":true/],
    }
    for (const [name, [body, status, message]] of Object.entries(cases)) {
      const answer = await review(body)
      assert.equal(answer.status, status, `${name}: ${answer.text}`)
      assert.match(answer.text, message, name)
      assert.doesNotMatch(answer.text, /"patch"/)
    }
    assert.equal((await review(reviewOf({}), { method: 'PUT' })).status, 405)
    assert.equal((await review(reviewOf({}), { path: '/v1/secrets' })).status, 404)
    await goesOn()
    assert.match(await operator.metrics(), /^farebox_operator_admission_seconds_count\{outcome="malformed"\} \d\d$/m)
  })

  test('a review of 10 MB is answered 413, packed or not, and the operator goes on', async () => {
    const large = reviewOf({ object: { ...pod, metadata: { ...pod.metadata, annotations: { large: 'x'.repeat(LARGE) } } } })
    const packed = gzipSync(large)
    assert.ok(packed.length < LARGE / 100)
    for (const [body, headers] of [
      [large, {}],
      [packed, { 'content-encoding': 'gzip' }],
    ] as const) {
      const answer = await review(body, { headers })
      assert.equal(answer.status, 413, answer.text)
      assert.match(answer.text, /must be at most 4194304 bytes/)
    }
    await goesOn()
  })

  test('T65: a token that is not of a pod that is there, for us, is refused, for the stream and for reports', async (context) => {
    const signer = createPrivateKey(readFileSync(join(api.folder, 'pki', 'service-accounts.key')))
    const there = await createPod(api, SHOP, { name: 'there', labels: { app: 'desk' } })
    const gone = await createPod(api, SHOP, { name: 'gone', labels: { app: 'desk' } })
    const token = await boundToken(api, there, TOKEN_AUDIENCE)
    const ofGone = await boundToken(api, gone, TOKEN_AUDIENCE)
    const { status } = await api.request({ method: 'DELETE', path: `/api/v1/namespaces/${SHOP}/pods/gone?gracePeriodSeconds=0` })
    assert.equal(status, 200)
    await waitFor(
      'the operator to have heard of it',
      async () => (await sendReport(listener, `Bearer ${ofGone}`, makeReport())).status === 403,
    )
    const nowS = Math.floor(Date.now() / 1_000)
    const elsewhere = generateKeyPairSync('rsa', { modulusLength: 2_048 }).privateKey
    const [header = '', , signature = ''] = token.split('.')
    const moved = encoded({ ...claimsIn(token), 'kubernetes.io': { namespace: NEIGHBOUR } })
    const cases: Readonly<Record<string, readonly [authorization: string | null, status: number, error: RegExp]>> = {
      'as the kubelet hands it out': [`Bearer ${token}`, 200, /^$/],
      missing: [null, 401, /a bearer token is needed/],
      'of another kind': ['Basic dXNlcjpwYXNz', 401, /no bearer token/],
      garbage: ['Bearer a.b.c', 401, /cannot be read/],
      'for the API server': [
        `Bearer ${await boundToken(api, there, 'https://kubernetes.default.svc')}`,
        401,
        /is not for farebox\.dev\/delivery/,
      ],
      'of a pod that is gone': [`Bearer ${ofGone}`, 403, /there is no pod shop\/gone/],
      'of a service account without a pod': [`Bearer ${await api.tokenOf(SHOP, 'default', [TOKEN_AUDIENCE])}`, 403, /bound to no pod/],
      'that has expired': [
        `Bearer ${resigned(token, { iat: nowS - 7_200, nbf: nowS - 7_200, exp: nowS - 3_600 }, signer)}`,
        401,
        /has expired/,
      ],
      'of another cluster': [`Bearer ${resigned(token, {}, elsewhere)}`, 401, /signature is wrong/],
      'of another issuer': [`Bearer ${resigned(token, { iss: 'https://elsewhere.example.test' }, signer)}`, 401, /another issuer/],
      'moved to another namespace': [`Bearer ${header}.${moved}.${signature}`, 401, /signature is wrong/],
      'without a signature': [`Bearer ${encoded({ alg: 'none' })}.${token.split('.')[1]}.x`, 401, /cannot be read/],
    }
    const tried = Object.entries(cases).map(async ([name, [authorization, wanted, error]]) => {
      const [stream, report] = await Promise.all([openStream(listener, authorization), sendReport(listener, authorization, makeReport())])
      assert.equal(report.status, wanted === 200 ? 202 : wanted, name)
      context.after(() => stream.close())
      assert.equal(stream.status, wanted, `${name}: ${stream.error}`)
      assert.match(stream.error, error, name)
    })
    await Promise.all(tried)
    await goesOn()
  })

  test('T65: a pod of another namespace hears of its own budget alone, and counts for no other, whatever it says', async (context) => {
    const stranger = await createPod(api, NEIGHBOUR, { name: 'stranger', labels: { app: 'desk' } })
    const free = await createPod(api, NEIGHBOUR, { name: 'free', labels: { app: 'other' } })
    const config = configIn(await shown(api, configMapPath(SHOP, 'desk')))
    const authorization = `Bearer ${await boundToken(api, stranger, TOKEN_AUDIENCE)}`
    const stream = await openStream(listener, authorization, { headers: { 'x-farebox-have': config.hash } })
    context.after(() => stream.close())
    const told = await waitFor('its config', () => stream.events.find(({ name }) => name === 'config'))
    assert.partialDeepStrictEqual(JSON.parse(told.data), { namespace: NEIGHBOUR, budget: 'desk' })
    const ungoverned = await openStream(listener, `Bearer ${await boundToken(api, free, TOKEN_AUDIENCE)}`)
    context.after(() => ungoverned.close())
    await waitFor('what it is told', () => ungoverned.events.some(({ name }) => name === 'released'))
    assert.equal(
      ungoverned.events.some(({ name }) => name === 'config'),
      false,
    )
    const before = await shown(api, budgetPath(SHOP, 'desk'))
    const inForce = { budget: `${SHOP}/desk`, version: config.version, hash: config.hash }
    const lie = makeReport({ inForce, status: statusOf(`${SHOP}/desk`, totals({ conversations: 9, spent: '99' })) })
    assert.equal((await sendReport(listener, authorization, lie)).status, 202)
    await waitFor('the stranger in its own status', async () => {
      const own = await shown(api, budgetPath(NEIGHBOUR, 'desk'))
      return JSON.stringify(own?.status?.conditions).includes('"Reconciling"')
    })
    const after = await shown(api, budgetPath(SHOP, 'desk'))
    assert.deepEqual(after?.status?.['conversations'], before?.status?.['conversations'])
    assert.equal(conditionOf(after, 'UsageFresh')?.reason, conditionOf(before, 'UsageFresh')?.reason)
    assert.equal((await api.request({ method: 'DELETE', path: `/api/v1/namespaces/${NEIGHBOUR}/pods/stranger` })).status, 200)
  })

  test('a report that is none, or of 10 MB, is refused, and the operator goes on', async () => {
    const pod = await createPod(api, SHOP, { name: 'talks', labels: { app: 'desk' } })
    const authorization = `Bearer ${await boundToken(api, pod, TOKEN_AUDIENCE)}`
    assert.equal((await sendReport(listener, authorization, '{')).status, 422)
    assert.equal((await sendReport(listener, authorization, JSON.stringify({ ...makeReport(), sequence: 'first' }))).status, 422)
    const large = await sendReport(listener, authorization, JSON.stringify({ ...makeReport(), books: 'x'.repeat(LARGE) }))
    assert.deepEqual(large, { status: 413, error: `a report has at most ${REPORT_BYTES_MAX} bytes` })
    assert.equal((await sendReport(listener, authorization, makeReport())).status, 202)
    await goesOn()
  })

  test('T68: reports that are replayed, come late or come from who shares the books count once', async (context) => {
    const namespace = await freshNamespace(api, context, 'replay')
    await apply(api, tierOf('counted'), budgetOf(namespace, 'desk', 'counted'))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const config = configIn(await shown(api, configMapPath(namespace, 'desk')))
    const authorizationOf = async (name: string): Promise<string> => {
      const pod = await createPod(api, namespace, { name, labels: { app: 'desk' } })
      return `Bearer ${await boundToken(api, pod, TOKEN_AUDIENCE)}`
    }
    const [one, two] = [await authorizationOf('one'), await authorizationOf('two')]
    const say = async (authorization: string, parts: Partial<SidecarReport>, counted: Counted): Promise<void> => {
      const budget = `${namespace}/desk`
      const inForce = { budget, version: config.version, hash: config.hash }
      const status = statusOf(budget, totals(counted, 'counted'))
      const report = makeReport({ inForce, status, runSinceMs: 2_000, sequence: 5, ...parts })
      assert.equal((await sendReport(listener, authorization, report)).status, 202)
    }
    const spent = async (): Promise<object | null> => {
      const tiers = (await shown(api, budgetPath(namespace, 'desk')))?.status?.['tiers'] as readonly Counted[] | undefined
      return tiers?.[0] ?? null
    }
    const first = { conversations: 3, spent: '0.30' }
    await say(one, {}, first)
    await waitFor('the first report in status', spent)
    for (let replay = 0; replay < REPLAYS; replay += 1) await say(one, {}, first)
    await say(one, { sequence: 4 }, { conversations: 99, spent: '9.90' })
    await say(one, { sequence: 50, runSinceMs: 1_000, run: 'cd'.repeat(16) }, { conversations: 98, spent: '9.80' })
    const last = { conversations: 4, spent: '0.40' }
    await say(one, { sequence: 6 }, last)
    await say(two, {}, last)
    // Both are counted then: what counts twice has been.
    const after = await waitFor('both sidecars in status', async () => {
      const status = (await shown(api, budgetPath(namespace, 'desk')))?.status
      return (status?.['workloads'] as { readonly inSync: number } | undefined)?.inSync === 2 ? status : null
    })
    const counted = { conversations: { total: 4 }, spend: { spent: '0.40' } }
    assert.partialDeepStrictEqual(after, { ...counted, tiers: [{ tier: 'counted', ...counted }] })
  })

  test('T64: a config that is corrupt when it arrives is refused, status says so, and the last good one stays in force', async (context) => {
    const namespace = await freshNamespace(api, context, 'corrupt')
    const upstreams = [{ name: 'openai', baseURL: `${provider.url}/v1` }]
    await apply(api, tierOf('pushed'), budgetOf(namespace, 'desk', 'pushed', { upstreams }))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const relay = await startRelay(listener)
    context.after(() => relay.close())
    const pod = await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    const sidecar = await startPodSidecar(api, pod, { FAREBOX_OPERATOR: relay.url, FAREBOX_OPERATOR_CA: relay.caFile })
    context.after(() => sidecar.kill())
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Programmed=True', 'UsageFresh=True'])
    const { hash } = (await sidecar.status()).config
    relay.corrupts(true)
    await edit('2.50')
    const refused = await untilSaid(api, budgetPath(namespace, 'desk'), ['Programmed=False Refused', 'Ready=False'])
    assert.match(conditionOf(refused, 'Programmed')?.message ?? '', /1 sidecar of 1 refused config [0-9a-f]{16} .* the one before: mode: /)
    assert.partialDeepStrictEqual(refused.status?.workloads, { nacked: 1, inSync: 0, worst: [{ pod: 'desk', trouble: 'Nacked' }] })
    const status = await sidecar.status()
    assert.equal(status.config.hash, hash)
    assert.match(status.rejected?.reason ?? '', /^mode: /)
    const messages = [{ role: 'user', content: 'Hello.' }] as const
    await sidecar.client().chat.completions.create({ model: MODEL, max_tokens: 20, messages: [...messages] })
    relay.corrupts(false)
    await edit('2.60')
    const good = await untilSaid(api, budgetPath(namespace, 'desk'), ['Programmed=True'])
    assert.partialDeepStrictEqual(good.status?.workloads, { nacked: 0, inSync: 1 })
    assert.equal((await sidecar.status()).rejected, null)

    async function edit(price: string): Promise<void> {
      const body = { spec: { pricing: { price } } }
      assert.equal((await api.request({ method: 'PATCH', path: tierPath('pushed'), body })).status, 200)
    }
  })

  test('T64: a config map that an administrator corrupts is put right, and no sidecar is told what it said', async (context) => {
    const namespace = await freshNamespace(api, context, 'edited')
    await apply(api, tierOf('kept'), budgetOf(namespace, 'desk', 'kept'))
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Ready=True'])
    const path = configMapPath(namespace, 'desk')
    const before = await shown(api, path)
    const corrupt = { data: { 'config.json': '{"schemaVersion":1,"version":99' } }
    const guarded = await api.request<{ message: string }>({ method: 'PATCH', path, body: corrupt })
    assert.equal(guarded.status, 403)
    assert.match(guarded.body.message, /the farebox operator writes this from the ConversationBudgets/)
    const pod = await createPod(api, namespace, { name: 'desk', labels: { app: 'desk' } })
    const stream = await openStream(listener, `Bearer ${await boundToken(api, pod, TOKEN_AUDIENCE)}`)
    context.after(() => stream.close())
    await waitFor('its config', () => stream.events.some(({ name }) => name === 'config'))
    await api.kubectl(['delete', 'validatingadmissionpolicybinding', 'farebox-config-guard'])
    await waitFor('the guard to be gone', async () => (await api.request({ method: 'PATCH', path, body: corrupt })).status === 200)
    const after = await waitFor('the config map put right', async () => {
      const map = await shown(api, path)
      return map?.data?.['config.json'] === before?.data?.['config.json'] ? map : null
    })
    assert.equal(configIn(after).hash, configIn(before).hash)
    await untilSaid(api, budgetPath(namespace, 'desk'), ['Programmed=True'])
    const configs = stream.events.filter(({ name }) => name === 'config').map(({ data }) => data)
    assert.deepEqual([...new Set(configs)], [before?.data?.['config.json']])
    assert.ok(sidecarOf(pod))
    assert.equal((await api.request({ path: `/api/v1/namespaces/${OPERATOR_NAMESPACE}/pods` })).status, 200)
  })
})

interface Counted {
  readonly conversations: number
  readonly spent: string
}

/** By tier, as a sidecar tells them. */
function totals({ conversations, spent }: Counted, tier = 'pro'): Readonly<Record<string, TierTotals>> {
  return {
    [tier]: {
      conversations,
      turns: conversations,
      byRung: {},
      spent,
      held: '0',
      cost: { p50: '0.10', p95: '0.10', p99: '0.10', max: '0.10' },
      alerts: {},
      resolutions: { started: 0, confirmed: 0, reversed: 0, costPer: null },
    },
  }
}

function statusOf(budget: string, tiers: Readonly<Record<string, TierTotals>>): SidecarReport['status'] {
  return {
    config: { budget, mode: 'Enforce', version: 1, hash: '0' },
    rejected: null,
    tiers,
    callsInFlight: 0,
    store: { kind: 'Embedded', state: 'Ready', reason: null, since: new Date(0).toISOString(), unsent: 0 },
  }
}

interface Relay {
  readonly url: string
  readonly caFile: string
  /** Whether configs of the stream are spoiled on their way from now on. */
  corrupts(does: boolean): void
  close(): void
}

/** Between a sidecar and the operator: what only a fault could do to a config. */
async function startRelay({ url, ca }: Listener): Promise<Relay> {
  const { cert, key } = selfSigned(['localhost'], { byAddress: true })
  const folder = mkdtempSync(join(tmpdir(), 'farebox-relay-'))
  const caFile = join(folder, 'ca.crt')
  writeFileSync(caFile, cert)
  let isCorrupting = false
  const server = createServer({ cert, key }, (incoming, outgoing) => {
    const { host: _host, ...headers } = incoming.headers
    const asked = request(new URL(incoming.url ?? '', url), { ca, method: incoming.method, headers, agent: false }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.on('error', () => outgoing.destroy())
      if (incoming.url !== STREAM_PATH) return void answer.pipe(outgoing)
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (chunk: string) => {
        text += chunk
        const events = text.split('\n\n')
        text = events.pop() ?? ''
        for (const event of events) {
          if (event.startsWith('event: trust')) continue // whom to trust is ours to say here
          const isSpoiled = isCorrupting && event.startsWith('event: config')
          outgoing.write(`${isSpoiled ? event.replace('"mode":"Enforce"', '"mode":"Dream"') : event}\n\n`)
        }
      })
      answer.on('end', () => outgoing.end())
    })
    asked.on('error', () => outgoing.destroy())
    outgoing.on('close', () => asked.destroy())
    if (incoming.url === REPORTS_PATH) incoming.pipe(asked)
    else asked.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `https://127.0.0.1:${port}`,
    caFile,
    corrupts(does) {
      isCorrupting = does
    },
    close() {
      server.closeAllConnections()
      server.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function claimsIn(token: string): Readonly<Record<string, unknown>> {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')) as Record<string, unknown>
}

function encoded(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString('base64url')
}

/** The same token with other claims, signed by `key`. */
function resigned(token: string, claims: object, key: KeyObject): string {
  const text = `${token.split('.')[0]}.${encoded({ ...claimsIn(token), jti: randomUUID(), ...claims })}`
  return `${text}.${sign('sha256', Buffer.from(text), key).toString('base64url')}`
}
