/**
 * The least that Node can do between a client and a provider: it hands bytes from one socket to the other and reads none
 * of them. What it costs is the floor under every proxy on Node, whatever it does. Called with the provider's port;
 * prints `listening PORT`.
 */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'

const upstreamPort = Number(process.argv[2])

const server = createServer({ noDelay: true }, (client) => {
  const provider = connect({ port: upstreamPort, host: '127.0.0.1', noDelay: true })
  relay(client, provider)
  relay(provider, client)
})
server.listen(0, '127.0.0.1', () => console.log(`listening ${(server.address() as AddressInfo).port}`))

function relay(from: Socket, to: Socket): void {
  from.on('data', (bytes: Buffer) => {
    if (!to.write(bytes)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('end', () => to.end())
  // Half a relay is none: what the one side breaks off is broken off on the other.
  from.on('error', () => to.destroy())
  from.on('close', () => to.destroy())
}
