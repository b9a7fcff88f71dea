import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, request } from 'node:https'
import type { ClientRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { after, before, describe, test } from 'node:test'
import { ANNOTATIONS } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { waitFor } from '../../../test/support/wait-for.ts'
import { applyPatch } from '../../../test/support/json-patch.ts'
import { makeBudget, makeInjectionSettings, makePod, podProblems } from '../../../test/support/pods.ts'
import type { TestPod } from '../../../test/support/pods.ts'
import { createAuthority, issueLeaf } from '../certificates/authority.ts'
import type { KeyPair } from '../certificates/pem.ts'
import { createWebhook, INJECT_PATH } from './webhook.ts'
import type { AnswerFacts, WebhookSettings } from './webhook.ts'

const MIB = 1024 * 1024
const tls: { authority: KeyPair; leaf: KeyPair } = { authority: { cert: '', key: '' }, leaf: { cert: '', key: '' } }
before(async () => {
  tls.authority = await createAuthority(Date.now())
  tls.leaf = await issueLeaf(tls.authority, ['127.0.0.1'], Date.now())
})

interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: unknown
}

/** A webhook that listens, with what it told. */
async function start(budgets: readonly ConversationBudget[] = [makeBudget()], bounds: Omit<WebhookSettings, 'injection'> = {}) {
  const cache = { hasSynced: true, values: (): Iterable<ConversationBudget> => budgets }
  const told: { answers: AnswerFacts[]; errors: unknown[] } = { answers: [], errors: [] }
  const webhook = createWebhook(
    {
      budgets: cache,
      onAnswer: (answer) => told.answers.push(answer),
      onError: (error) => told.errors.push(error),
    },
    { injection: makeInjectionSettings(), ...bounds },
  )
  const server = webhook.createServer(tls.leaf).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const agent = new Agent({ keepAlive: true, ca: tls.authority.cert })
  return {
    cache,
    told,
    webhook,
    port,
    /** A review of so many bytes that are still to come. */
    begin(bytes: number): ClientRequest {
      const headers = { 'content-type': 'application/json', 'content-length': bytes }
      const call = request({ ca: tls.authority.cert, agent: false, host: '127.0.0.1', port, path: INJECT_PATH, method: 'POST', headers })
      call.on('error', () => undefined)
      call.flushHeaders()
      return call
    },
    send: (body: string, options: { readonly method?: string; readonly path?: string; readonly type?: string } = {}) =>
      new Promise<Reply>((resolve, reject) => {
        const { method = 'POST', path = INJECT_PATH, type = 'application/json' } = options
        const call = request(
          { agent, host: '127.0.0.1', port, path: `${path}?timeout=3s`, method, headers: { 'content-type': type } },
          (reply) => {
            const chunks: Buffer[] = []
            reply.on('data', (chunk: Buffer) => chunks.push(chunk))
            reply.on('end', () => {
              resolve({ status: reply.statusCode ?? 0, headers: reply.headers, body: JSON.parse(Buffer.concat(chunks).toString('utf8')) })
            })
          },
        )
        call.on('error', reject)
        call.end(body)
      }),
    async stop() {
      agent.destroy()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

function reviewOf(pod: unknown, fields: Readonly<Record<string, unknown>> = {}): string {
  return JSON.stringify({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: 'u-1',
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      namespace: 'shop',
      operation: 'CREATE',
      dryRun: false,
      object: pod,
      oldObject: null,
      ...fields,
    },
  })
}

interface Response {
  readonly uid: string
  readonly allowed: boolean
  readonly patch?: string
  readonly patchType?: string
  readonly warnings?: readonly string[]
}

function responseOf({ status, body }: Reply): Response {
  assert.equal(status, 200, JSON.stringify(body))
  const review = body as { readonly apiVersion: string; readonly kind: string; readonly response: Response }
  assert.equal(review.apiVersion, 'admission.k8s.io/v1')
  assert.equal(review.kind, 'AdmissionReview')
  return review.response
}

function patched(pod: TestPod, { patch = '' }: Response): TestPod {
  return applyPatch(pod, JSON.parse(Buffer.from(patch, 'base64').toString('utf8')))
}

describe('the webhook', () => {
  const running: { current: Awaited<ReturnType<typeof start>> | null } = { current: null }
  const hook = () => running.current ?? assert.fail('is not started')
  before(async () => {
    running.current = await start()
  })
  after(() => hook().stop())

  test('T1: a pod that a budget selects gets its sidecar, and who made it is told', async () => {
    const pod = makePod()
    const response = responseOf(await hook().send(reviewOf(pod)))
    assert.equal(response.uid, 'u-1')
    assert.equal(response.allowed, true)
    assert.equal(response.patchType, 'JSONPatch')
    assert.deepEqual(podProblems(patched(pod, response)), [])
    assert.deepEqual(response.warnings, ['farebox: sidecar injected: ConversationBudget "support" governs this pod'])
    const facts = hook().told.answers.at(-1)
    assert.equal(facts?.result, 'injected')
    assert.ok((facts?.ms ?? -1) >= 0)
  })

  test('T3: asked again about its own result it has nothing to do', async () => {
    for (const pod of [makePod(), makePod({ hostNetwork: true })]) {
      const once = patched(pod, responseOf(await hook().send(reviewOf(pod))))
      assert.equal(responseOf(await hook().send(reviewOf(once))).patch, undefined)
    }
  })

  test('T6: a pod that is skipped carries its reason', async () => {
    const pod = makePod({ hostNetwork: true }, { name: 'chat-0' })
    const response = responseOf(await hook().send(reviewOf(pod)))
    assert.equal(patched(pod, response).metadata.annotations?.[ANNOTATIONS.skipped], 'HostNetwork')
    assert.match(response.warnings?.join() ?? '', /^farebox: no sidecar \(HostNetwork\)/)
    assert.equal(hook().told.answers.at(-1)?.reason, 'HostNetwork')
  })

  test('the namespace is that of the request: the pod may have none yet', async () => {
    const pod = makePod({}, { namespace: 'shop' })
    assert.equal(responseOf(await hook().send(reviewOf(pod, { namespace: 'elsewhere' }))).patch, undefined)
  })

  test('a pod that nothing governs is let go without a word', async () => {
    assert.deepEqual(responseOf(await hook().send(reviewOf(makePod({}, { labels: { app: 'other' } })))), { uid: 'u-1', allowed: true })
  })

  test('T14: a dry run gets the same patch', async () => {
    const wet = responseOf(await hook().send(reviewOf(makePod())))
    const dry = responseOf(await hook().send(reviewOf(makePod(), { dryRun: true })))
    assert.deepEqual(dry, wet)
    assert.equal(hook().told.answers.at(-1)?.dryRun, true)
  })

  test('T13: a review of 1 MB is answered, managed fields and all', async () => {
    const pod = makePod({}, { managedFields: [{ manager: 'x', fieldsV1: { padding: 'x'.repeat(MIB) } }] })
    assert.deepEqual(podProblems(patched(pod, responseOf(await hook().send(reviewOf(pod))))), [])
  })

  test('T13: a review of 5 MB is refused with its limit, and the connection goes on', async () => {
    const reply = await hook().send(reviewOf(makePod({}, { annotations: { padding: 'x'.repeat(5 * MIB) } })))
    assert.equal(reply.status, 413)
    assert.deepEqual(reply.body, { error: 'must be at most 4194304 bytes' })
    assert.equal(hook().told.answers.at(-1)?.result, 'tooLarge')
    assert.equal(responseOf(await hook().send(reviewOf(makePod()))).allowed, true)
  })

  test('what is not an AdmissionReview is a 400 that says what must be', async () => {
    const cases: readonly [body: string, message: RegExp][] = [
      ['', /must be an AdmissionReview/],
      ['{', /must be an AdmissionReview as JSON/],
      ['[]', /must be an AdmissionReview of admission\.k8s\.io\/v1/],
      ['{}', /apiVersion: /],
      [reviewOf(makePod()).replace('k8s.io/v1', 'k8s.io/v1beta1'), /apiVersion: .*admission\.k8s\.io\/v1/],
      [reviewOf(makePod(), { uid: '' }), /request\.uid: /],
      [reviewOf(makePod(), { namespace: undefined }), /request\.namespace: /],
      [reviewOf({ metadata: {} }), /request\.object must be a Pod: spec: /],
      [reviewOf(null), /request\.object must be a Pod: /],
      [reviewOf({ metadata: {}, spec: { containers: [{ name: 1 }] } }), /spec\.containers\.0\.name: /],
    ]
    for (const [body, message] of cases) {
      const { status, body: answer } = await hook().send(body)
      assert.equal(status, 400, body.slice(0, 80))
      assert.match((answer as { readonly error: string }).error, message)
      assert.equal(hook().told.answers.at(-1)?.result, 'malformed')
    }
    assert.deepEqual(hook().told.errors, [])
  })

  test('what it was not made for is let go with a warning', async () => {
    for (const fields of [
      { operation: 'DELETE' },
      { kind: { group: 'apps', kind: 'Deployment' } },
      { subResource: 'ephemeralcontainers' },
    ]) {
      const { allowed, patch, warnings } = responseOf(await hook().send(reviewOf(makePod(), fields)))
      assert.equal(allowed, true)
      assert.equal(patch, undefined)
      assert.match(warnings?.join() ?? '', /CREATE of Pod alone/)
    }
  })

  test('other paths and methods are told where pods go', async () => {
    assert.equal((await hook().send('', { path: '/' })).status, 404)
    assert.equal((await hook().send('', { method: 'GET' })).status, 405)
  })
})

test('a failure of ours lets the pod go, with a warning, and is told', async () => {
  const hook = await start()
  try {
    hook.cache.values = () => {
      throw new Error('planted')
    }
    const reply = await hook.send(reviewOf(makePod()))
    assert.equal(reply.status, 500) // the cache itself: the API server's failure policy decides
    hook.cache.values = () => [JSON.parse('{"metadata":{"name":"x","namespace":"shop"},"spec":{}}')]
    const { allowed, patch, warnings } = responseOf(await hook.send(reviewOf(makePod())))
    assert.equal(allowed, true)
    assert.equal(patch, undefined)
    assert.match(warnings?.join() ?? '', /failed over this pod/)
    assert.equal(hook.told.answers.at(-1)?.result, 'failed')
    assert.equal(hook.told.errors.length, 2)
  } finally {
    await hook.stop()
  }
})

test('T27: before its caches have synced it is not ready, and says nothing about a pod', async () => {
  const hook = await start()
  try {
    hook.cache.hasSynced = false
    assert.equal(hook.webhook.isReady(), false)
    const early = hook.send(reviewOf(makePod()))
    setTimeout(() => (hook.cache.hasSynced = true), 100)
    assert.ok(responseOf(await early).patch !== undefined, 'it waits a moment')
    assert.equal(hook.webhook.isReady(), true)
    hook.cache.hasSynced = false
    const { status, body } = await hook.send(reviewOf(makePod()))
    assert.equal(status, 503)
    assert.deepEqual(body, { error: 'budgets are not read yet' })
    assert.equal(hook.told.answers.at(-1)?.result, 'notReady')
  } finally {
    await hook.stop()
  }
})

test('T25: connections are kept open longer than the API server keeps them idle; a replica that goes away closes each after its answer', async () => {
  const hook = await start()
  try {
    const server = hook.webhook.createServer(tls.leaf)
    assert.ok(server.keepAliveTimeout > 90_000)
    assert.equal((await hook.send(reviewOf(makePod()))).headers['connection'], 'keep-alive')
    hook.webhook.drain()
    assert.equal(hook.webhook.isReady(), false)
    const last = await hook.send(reviewOf(makePod()))
    assert.equal(last.headers['connection'], 'close')
    assert.equal(responseOf(last).allowed, true)
  } finally {
    await hook.stop()
  }
})

test('four large reviews are read at a time, others wait their turn, and small ones pass them', async () => {
  const hook = await start()
  const slow: ClientRequest[] = []
  try {
    const body = reviewOf(makePod({}, { managedFields: [{ padding: 'x'.repeat(MIB) }] }))
    for (let index = 0; index < 4; index += 1) slow.push(hook.begin(body.length))
    await Promise.all(slow.map((call) => once(call, 'socket')))
    for (const call of slow) call.write(body.slice(0, MIB / 2))
    await waitFor('a turn that does not come', async () => (await hook.send(body)).status === 503)
    assert.equal(hook.told.answers.at(-1)?.result, 'busy')
    assert.equal(responseOf(await hook.send(reviewOf(makePod()))).allowed, true)
    const waiting = hook.send(body)
    slow.pop()?.destroy()
    assert.equal(responseOf(await waiting).allowed, true, 'one that was cut off gives its turn back')
    slow.pop()?.end(body.slice(MIB / 2))
    const both = await Promise.all([hook.send(body), hook.send(body)])
    for (const reply of both) assert.equal(responseOf(reply).allowed, true)
  } finally {
    for (const call of slow) call.destroy()
    await hook.stop()
  }
})

test('connections are bounded, in all and from one address', async () => {
  for (const bounds of [{ connectionsMax: 2 }, { connectionsOfAddressMax: 2 }]) {
    const hook = await start([makeBudget()], bounds)
    const sockets: TLSSocket[] = []
    try {
      for (let index = 0; index < 4; index += 1) {
        const socket = connect({ port: hook.port, host: '127.0.0.1', ca: tls.authority.cert })
        socket.on('error', () => undefined)
        sockets.push(socket)
      }
      await waitFor('the refusals', () => hook.told.answers.filter(({ result }) => result === 'refused').length === 2)
      assert.equal(sockets.filter(({ destroyed }) => !destroyed).length >= 2, true)
      for (const socket of sockets) socket.destroy()
      await waitFor('room', async () => (await hook.send(reviewOf(makePod())).catch(() => null))?.status === 200)
    } finally {
      for (const socket of sockets) socket.destroy()
      await hook.stop()
    }
  }
})

test('a hundred reviews in a row take a few milliseconds each', async () => {
  const budgets = Array.from({ length: 500 }, (_, index) => makeBudget({ name: `b-${index}`, namespace: `ns-${index % 100}` }))
  const hook = await start([...budgets, makeBudget()])
  try {
    for (let index = 0; index < 100; index += 1) responseOf(await hook.send(reviewOf(makePod())))
    const sorted = hook.told.answers.map(({ ms }) => ms).toSorted((a, b) => a - b)
    assert.ok((sorted[50] ?? Infinity) < 20, `median ${sorted[50]} ms`)
  } finally {
    await hook.stop()
  }
})
