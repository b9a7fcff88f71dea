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

export interface OpenSlot {
  /** Brings a key to the node that the slot moves to. */
  move(key: string): Promise<void>
  /** Brings all keys there, and with them the slot. */
  finish(): Promise<void>
  /** Leaves it as it is. */
  stop(): void
}

/** Begins to move the slot of a key that is there to another node, as `redis-cli --cluster reshard` does it: keys are on one of the two. */
export async function openSlot({ nodes }: TestCluster, key: string): Promise<OpenSlot> {
  const [first, ...others] = nodes.map(({ port }) => new Redis({ host: '127.0.0.1', port, lazyConnect: true }))
  if (first === undefined) throw new Error('a cluster has nodes')
  const clients = [first, ...others]
  const slot = await first.cluster('KEYSLOT', key)
  const isOwner = (client: Redis): Promise<boolean> =>
    client.exists(key).then(
      () => true,
      () => false,
    )
  const owners = await Promise.all(clients.map(isOwner))
  const [from = first, to = first] = [clients[owners.indexOf(true)], clients[owners.indexOf(false)]]
  const [fromId, toId] = [await from.cluster('MYID'), await to.cluster('MYID')]
  await to.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId)
  await from.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId)
  const move = async (...keys: readonly string[]): Promise<void> => {
    if (keys.length > 0) await from.call('MIGRATE', '127.0.0.1', to.options.port ?? 0, '', 0, 5_000, 'KEYS', ...keys)
  }
  return {
    move,
    async finish() {
      await move(...(await from.cluster('GETKEYSINSLOT', slot, 1_000)))
      for (const client of new Set([to, from, ...clients])) await client.call('CLUSTER', 'SETSLOT', slot, 'NODE', toId)
    },
    stop: () => clients.forEach((client) => client.disconnect()),
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
