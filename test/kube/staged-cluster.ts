/** A cluster for tests of controllers: caches of an API server that is a stand-in, in which a test puts what is there at the start. */
import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { FakeApiServer } from './fake-api-server.ts'
import { connectKube } from '@farebox/operator/kube/client.ts'
import { CONVERSATION_BUDGETS, NAMESPACES, PRICING_TIERS } from '@farebox/operator/kube/resources.ts'
import { Cluster } from '@farebox/operator/controllers/cluster.ts'
import type { Change } from '@farebox/operator/controllers/cluster.ts'

export interface ClusterStage {
  readonly server: FakeApiServer
  readonly kube: Awaited<ReturnType<typeof connectKube>>
  readonly cluster: Cluster
}

/** Its caches know what `put` has put there. It ends with the test. */
export async function stageCluster(
  context: TestContext,
  put: (server: FakeApiServer) => void,
  onChange: (change: Change) => void = () => undefined,
  { storeSecret = 'store' }: { readonly storeSecret?: string } = {},
): Promise<ClusterStage> {
  const server = new FakeApiServer()
  await server.start()
  const kube = await connectKube({ kubeconfig: server.kubeconfig })
  const cluster = new Cluster({
    kube,
    namespace: 'farebox',
    tlsSecret: 'tls',
    storeSecret,
    webhookName: 'farebox',
    onChange,
    onProblem: ({ error }) => assert.fail(String(error)),
  })
  context.after(async () => {
    await cluster.stop()
    await kube.close()
    await server.end()
  })
  put(server)
  cluster.start()
  await cluster.synced()
  return { server, kube, cluster }
}

/** A tier that budgets can be bound to. */
export function putTier(server: FakeApiServer, name: string): void {
  const spec = {
    displayName: 'Pro',
    pricing: { model: 'PerConversation', price: '1.00' },
    unitEconomics: { targetGrossMarginPercent: 70 },
  }
  server.put(PRICING_TIERS, name, { fields: { spec } })
}

/** A namespace with the budget `desk`, which is bound to the tier `pro`. */
export function putDesk(server: FakeApiServer, namespace: string): void {
  server.put(NAMESPACES, namespace)
  const spec = { selector: { matchLabels: { app: 'desk' } }, tier: { default: 'pro' } }
  server.put(CONVERSATION_BUDGETS, 'desk', { namespace, fields: { spec } })
}
