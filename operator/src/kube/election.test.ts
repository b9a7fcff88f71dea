import assert from 'node:assert/strict'
import { after, afterEach, beforeEach, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { waitFor } from '../../../test/support/wait-for.ts'
import { canBeFirst, Candidates } from '../../../test/kube/candidates.ts'
import type { Candidate } from '../../../test/kube/candidates.ts'
import { FakeApiServer } from '../../../test/kube/fake-api-server.ts'
import { connectKube } from './client.ts'
import type { KubeObject } from './kube.ts'
import { LeaderElection } from './election.ts'
import { LEASES } from './resources.ts'

/** A tenth of what is usual. */
const TIMES = { leaseMs: 1_500, renewDeadlineMs: 1_000, retryMs: 200 }
/** So long a main thread has to end its process before the thread of the lease kills it. */
const KILL_AFTER_MS = 1_000

suite('leader election', () => {
  let server: FakeApiServer
  let candidates: Candidates
  const endings: ('itself' | 'killed')[] = []

  beforeEach(async () => {
    server = new FakeApiServer()
    await server.start()
    candidates = new Candidates({ kubeconfig: server.kubeconfig, namespace: 'here', ...TIMES })
  })

  afterEach(async () => {
    await candidates.end()
    await server.end()
  })

  after(() => assert.ok(endings.length === 0 || endings.includes('itself'), 'not all of them were killed'))

  /** That `candidate` ends, as who lost the lease: by itself, or killed where a busy machine keeps its main thread from that. */
  async function isOver(candidate: Candidate): Promise<'itself' | 'killed'> {
    const { code, signal } = await candidate.exited
    assert.ok(code === 1 || signal === 'SIGKILL', `${code} ${signal}`)
    const how = code === 1 ? 'itself' : 'killed'
    endings.push(how)
    return how
  }

  async function twoWithLeader() {
    const a = candidates.start('a')
    await waitFor('a leads', () => a.leading)
    const b = candidates.start('b')
    await waitFor('b knows', () => b.address === 'a:9444')
    await delay(300)
    assert.equal(b.leading, false)
    return { a, b }
  }

  test('one of two leads, both know who, and a clean stop lets the next lead at once', async () => {
    await candidates.end()
    // So long that nobody takes the slow one of a busy machine for one that ran out.
    candidates = new Candidates({ kubeconfig: server.kubeconfig, namespace: 'here', ...TIMES, leaseMs: 6_000 })
    const { a, b } = await twoWithLeader()
    a.tell({ stop: true })
    assert.deepEqual(await a.exited, { code: 0, signal: null })
    const releasedMs = performance.now()
    await waitFor('b leads', () => b.leading)
    assert.ok(performance.now() - releasedMs < 2 * TIMES.retryMs + 1_700, `${performance.now() - releasedMs} ms`)
    const lease = server.read(LEASES, 'election', 'here')
    const spec = lease?.['spec'] as Record<string, unknown>
    assert.match(String(spec['holderIdentity']), /^b_[0-9a-f]{8}$/)
    assert.equal(spec['leaseTransitions'], 1)
    assert.match(String(spec['renewTime']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
    assert.equal(lease?.metadata.annotations?.['farebox.dev/leader-address'], 'b:9444')
    await candidates.assertOneWriter(['a', 'b'])
  })

  for (const how of ['hang', 'cut', 'refuse'] as const) {
    test(`T44, T46: a partition for the leader only (${how}): it writes no more, exits, and then the other leads`, async () => {
      const { a, b } = await twoWithLeader()
      const cutMs = performance.now()
      server.fault = ({ headers }) => (headers['user-agent'] !== 'a' ? null : how === 'refuse' ? { code: 500 } : how)
      const lateMs = (await isOver(a)) === 'killed' ? KILL_AFTER_MS : 0
      assert.ok(performance.now() - cutMs < TIMES.renewDeadlineMs + 1_200 + lateMs, `exit after ${performance.now() - cutMs} ms`)
      assert.match(a.stderr(), /leadership lost: the lease could not be renewed in time/)
      await waitFor('b leads', () => b.leading)
      await candidates.assertOneWriter(['a', 'b'])
      await delay(200)
      await candidates.assertOneWriter(['a', 'b'])
    })
  }

  test('a few renewals that fail cost nothing', async () => {
    await candidates.end()
    // One that hangs costs half of the deadline: in the other half a busy machine must find time for the next.
    candidates = new Candidates({ kubeconfig: server.kubeconfig, namespace: 'here', leaseMs: 6_000, renewDeadlineMs: 4_000, retryMs: 200 })
    const { a, b } = await twoWithLeader()
    for (const how of ['cut', 'hang', 'cut'] as const) {
      let left = how === 'cut' ? 2 : 1
      server.fault = ({ headers }) => (headers['user-agent'] === 'a' && (left -= 1) >= 0 ? how : null)
      await delay(2_600)
    }
    assert.deepEqual([a.process.exitCode, a.process.signalCode], [null, null])
    assert.equal(b.leading, false)
  })

  test('T45: a main thread that stands still: the lease goes on to another, and the process ends', async () => {
    const { a, b } = await twoWithLeader()
    a.tell({ blockMs: 6_000 })
    assert.deepEqual(await a.exited, { code: null, signal: 'SIGKILL' })
    assert.match(a.stderr(), /leadership lost: the main thread stood still/)
    await waitFor('b leads', () => b.leading)
    await candidates.assertOneWriter(['a', 'b'])
  })

  test(
    'T45: the same as the first process of a container',
    { skip: canBeFirst() ? false : 'needs the right to make a namespace' },
    async () => {
      const a = candidates.start('a', 'first')
      await waitFor('a leads', () => a.leading)
      a.tell({ blockMs: 8_000 })
      const startMs = performance.now()
      assert.deepEqual(await a.exited, { code: 1, signal: null })
      assert.ok(performance.now() - startMs < 5_000)
      assert.match(a.stderr(), /leadership lost: the main thread stood still/)
    },
  )

  test('a leader that is stopped and goes on later: another leads meanwhile, and it never writes again', async () => {
    const { a, b } = await twoWithLeader()
    a.process.kill('SIGSTOP')
    await waitFor('b leads', () => b.leading, { withinMs: 5_000 })
    a.process.kill('SIGCONT')
    const { code, signal } = await a.exited
    assert.ok(code === 1 || signal === 'SIGKILL')
    await delay(200)
    await candidates.assertOneWriter(['a', 'b'])
  })

  test('a lease that another took, or that was deleted, ends its holder', async () => {
    const { a, b } = await twoWithLeader()
    b.process.kill('SIGSTOP')
    const lease = server.read(LEASES, 'election', 'here')
    server.put(LEASES, 'election', { namespace: 'here', fields: { spec: { ...(lease?.['spec'] as object), holderIdentity: 'somebody' } } })
    await isOver(a)
    assert.match(a.stderr(), /leadership lost: the lease is somebody's by now/)
    b.process.kill('SIGCONT')
    await waitFor('b leads', () => b.leading)
    server.remove(LEASES, 'election', 'here')
    await isOver(b)
  })

  test('T48: times of others are texts only: a holder whose clock is wrong is waited for by our own', async () => {
    const renewTimes = ['2020-01-01T00:00:00.000000Z', '2099-01-01T00:00:00.000000Z', '1999-01-01T00:00:00.000000Z', 'not a time']
    let beat = 0
    const renew = () => {
      const spec = { holderIdentity: 'other', leaseDurationSeconds: 2, renewTime: renewTimes[beat % 4], leaseTransitions: 7 }
      beat += 1
      server.put(LEASES, 'election', { namespace: 'here', fields: { spec } })
    }
    renew()
    const holding = setInterval(renew, 300)
    const a = candidates.start('a')
    await waitFor('a knows', () => a.holder === 'other')
    await delay(3_000)
    clearInterval(holding)
    assert.equal(a.leading, false)
    const silentMs = performance.now()
    await waitFor('a leads', () => a.leading)
    const tookMs = performance.now() - silentMs
    assert.ok(tookMs >= 1_600 && tookMs < 3_500, `${tookMs} ms`)
  })

  test('the API server is away at the start: it is waited for; stop ends all that', async () => {
    await server.stop()
    const kube = await connectKube({ kubeconfig: server.kubeconfig })
    const troubles: string[] = []
    const leading: boolean[] = []
    const election = new LeaderElection({
      kube,
      namespace: 'here',
      name: 'election',
      identity: 'me',
      ...TIMES,
      onLeading: () => leading.push(election.mayWrite()),
      onLost: assert.fail,
      onTrouble: (message) => troubles.push(message),
    })
    await election.start()
    await waitFor('trouble', () => troubles.length > 0)
    assert.equal(election.mayWrite(), false)
    await delay(5 * TIMES.retryMs)
    assert.equal(new Set(troubles).size, troubles.length, 'each trouble is told once')
    await server.start()
    await waitFor('leads', () => election.isLeading)
    assert.deepEqual(leading, [true])
    assert.equal(election.holder?.identity, election.identity)
    await election.stop()
    assert.equal(election.mayWrite(), false)
    assert.deepEqual(holderIdentityOf(server.read(LEASES, 'election', 'here')), '')
    await kube.close()
    await waitFor('no socket', () => server.sockets === 0)
  })
})

function holderIdentityOf(lease: KubeObject | undefined): unknown {
  return (lease?.['spec'] as { holderIdentity?: unknown } | undefined)?.holderIdentity
}
