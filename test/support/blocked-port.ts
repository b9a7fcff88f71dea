/** A port at which anybody may listen, and which `fetch` refuses to ask (https://fetch.spec.whatwg.org/#port-blocking). */
import { once } from 'node:events'
import { createServer } from 'node:net'

const BLOCKED = [4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080]

/** One that was free a moment ago; any of them, since tests run beside each other. */
export async function portThatFetchBlocks(): Promise<number> {
  const shuffled = BLOCKED.map((port) => ({ port, at: Math.random() })).toSorted((one, other) => one.at - other.at)
  for (const { port } of shuffled) {
    const server = createServer().listen(port, '127.0.0.1')
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!isFree) continue
    server.close()
    await once(server, 'close')
    return port
  }
  throw new Error('none of the ports that fetch blocks is free')
}
