/** In a store of somebody else's the leader touches nothing but users of namespaces that it knows, whatever the Secret is called. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { EVENT_REASONS } from '@farebox/operator/controllers/event-reasons.ts'
import { Leader } from '@farebox/operator/controllers/leader.ts'
import { STORE_SECRET_KEYS } from '@farebox/operator/controllers/store-secret.ts'
import { ReportBook } from '@farebox/operator/delivery/report-book.ts'
import { EventRecorder } from '@farebox/operator/kube/events.ts'
import { NAMESPACES, SECRETS } from '@farebox/operator/kube/resources.ts'
import { readSettings } from '@farebox/operator/settings.ts'
import { createLog } from '@farebox/operator/telemetry/log.ts'
import { Metrics } from '@farebox/operator/telemetry/metrics.ts'
import { Redis } from 'ioredis'
import { waitFor } from '../support/wait-for.ts'
import { putDesk, putTier, stageCluster } from '../kube/staged-cluster.ts'
import { makeInjectionSettings } from '../support/pods.ts'
import { redisProgram, startRedis } from '../support/redis.ts'

const SECRET = 'farebox-store'
const PASSWORD = 'open'
const program = redisProgram()

for (const [mode, left] of [
  ['Own', ['default', 'fb-shop']],
  ['Given', ['default', 'fb-of-another-cluster', 'fb-shop']],
] as const) {
  test(`mode ${mode}: the users ${left.join(', ')} are left`, { skip: program === null ? 'redis-server is missing' : false }, async (t) => {
    const server = await startRedis(program ?? '')
    t.after(() => server.stop())
    const admin = new Redis(server.url)
    t.after(() => admin.disconnect())
    await admin.config('SET', 'requirepass', PASSWORD)
    await admin.call('ACL', 'SETUSER', 'fb-of-another-cluster')
    await lead(t, { FAREBOX_STORE_ADDRESS: server.url, FAREBOX_STORE_MODE: mode })
    // Which is the last thing done to them.
    await waitFor('the users to be kept', async () => /^cmdstat_acl.save:/m.test(await admin.info('commandstats')))
    assert.deepEqual(((await admin.call('ACL', 'USERS')) as string[]).toSorted(), left)
    const clients = async (): Promise<number | undefined> => String(await admin.client('LIST')).match(/^id=/gm)?.length
    await waitFor('its connections, of which one looks for scripts to end', async () => (await clients()) === (mode === 'Own' ? 3 : 2))
  })
}

/** A cluster with the namespace `shop`, whose budget is on the store. */
async function lead(context: TestContext, environment: Readonly<Record<string, string>>): Promise<void> {
  const base64 = (text: string): string => Buffer.from(text).toString('base64')
  const data = { [STORE_SECRET_KEYS.adminPassword]: base64(PASSWORD), [STORE_SECRET_KEYS.rootKey]: base64('k'.repeat(32)) }
  const { kube, cluster } = await stageCluster(
    context,
    (api) => {
      putTier(api, 'pro')
      putDesk(api, 'shop')
      api.put(NAMESPACES, 'farebox')
      api.put(SECRETS, SECRET, { namespace: 'farebox', fields: { data } })
    },
    undefined,
    { storeSecret: SECRET },
  )
  const events = new EventRecorder({ client: kube, reasons: Object.values(EVENT_REASONS), controller: 'farebox.dev/test', instance: 'a' })
  const leader = new Leader({
    cluster,
    client: kube,
    reports: new ReportBook(),
    settings: readSettings({
      POD_NAME: 'a',
      POD_NAMESPACE: 'farebox',
      POD_IP: '127.0.0.1',
      SERVICE_ACCOUNT: 'farebox-operator',
      FAREBOX_SIDECAR_IMAGE: 'farebox-sidecar:0.1.0',
      FAREBOX_DELIVERY_URL: 'https://localhost:1',
      FAREBOX_WEBHOOK_NAME: 'farebox',
      FAREBOX_TLS_MODE: 'Given',
      FAREBOX_TLS_NAMES: 'localhost',
      FAREBOX_STORE_SECRET: SECRET,
      ...environment,
    }),
    injection: makeInjectionSettings(),
    trust: () => null,
    events,
    metrics: new Metrics(() => assert.fail('nobody looks')),
    log: createLog('silent'),
  })
  leader.start()
  context.after(async () => {
    await leader.stop()
    await events.stop()
  })
}
