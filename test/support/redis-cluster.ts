/** Three masters that share the slots, for tests: joined by CLUSTER MEET, as `redis-cli --cluster create` does it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { startRedis } from './redis.ts'
import type { TestServer } from './redis.ts'

const NODES = 3
const SLOTS = 16_384
const READY_MS_MAX = 20_000

export interface TestCluster {
  readonly url: string
  readonly nodes: readonly TestServer[]
  stop(): Promise<void>
}

export async function startCluster(program: string): Promise<TestCluster> {
  const nodes: TestServer[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(nodes.map((node) => node.stop()))
  }
  try {
    for (let index = 0; index < NODES; index++)
      nodes.push(await startRedis(program, ['--cluster-enabled', 'yes', '--cluster-node-timeout', '5000']))
    const clients = nodes.map(({ port }) => new Redis({ host: '127.0.0.1', port }))
    try {
      await join(clients, nodes)
    } finally {
      for (const client of clients) client.disconnect()
    }
    return { url: `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`, nodes, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function join(clients: readonly Redis[], nodes: readonly TestServer[]): Promise<void> {
  for (const [index, client] of clients.entries()) {
    const from = Math.floor((index * SLOTS) / NODES)
    const to = Math.floor(((index + 1) * SLOTS) / NODES) - 1
    await client.call('CLUSTER', 'ADDSLOTSRANGE', from, to)
    await client.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)
    if (index > 0) await client.call('CLUSTER', 'MEET', '127.0.0.1', nodes[0]?.port ?? 0)
  }
  const end = performance.now() + READY_MS_MAX
  while (performance.now() < end) {
    const infos = await Promise.all(clients.map((client) => client.cluster('INFO')))
    if (infos.every((info) => /cluster_state:ok/.test(info) && info.includes(`cluster_known_nodes:${NODES}`))) return
    await sleep(50)
  }
  throw new Error('the nodes did not become a cluster')
}
