import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Agent, createServer, get } from 'node:https'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { TLSSocket } from 'node:tls'
import type { KubeObject } from '../kube/kube.ts'
import { createAuthority, issueLeaf } from './authority.ts'
import type { KeyPair } from './pem.ts'
import { createServing } from './serving.ts'

const NAMES = ['127.0.0.1']

function secretOf(data: Readonly<Record<string, string>>): KubeObject {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'farebox-tls' },
    data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, btoa(text)])),
  }
}
const served = ({ cert, key }: KeyPair) => secretOf({ 'tls.crt': cert, 'tls.key': key })

test('T29: while leaves are changed under load, no call fails, and new handshakes see the new one', async () => {
  const authority = await createAuthority(Date.now())
  const serving = createServing()
  const server = createServer({}, (_request, response) => response.end('ok')) // before any certificate has come
  serving.attach(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const call = (agent: Agent) =>
    new Promise<string>((resolve, reject) => {
      get({ agent, host: '127.0.0.1', port }, (response) => {
        const { fingerprint256 } = response.socket instanceof TLSSocket ? response.socket.getPeerCertificate() : assert.fail('is not TLS')
        response
          .resume()
          .on('end', () => resolve(fingerprint256))
          .on('error', reject)
      }).on('error', reject)
    })
  assert.equal(serving.update(served(await issueLeaf(authority, NAMES, Date.now()))), true)
  const kept = new Agent({ keepAlive: true, ca: authority.cert, maxSockets: 4 })
  const fresh = () => new Agent({ ca: authority.cert, maxCachedSessions: 0 })
  const load = { isOn: true, calls: 0 }
  const callers = [kept, null].map(async (agent) => {
    while (load.isOn) {
      await call(agent ?? fresh())
      load.calls += 1
    }
  })
  const seen = new Set<string>()
  for (let round = 0; round < 10; round += 1) {
    serving.update(served(await issueLeaf(authority, NAMES, Date.now())))
    seen.add(await call(fresh()))
  }
  load.isOn = false
  await Promise.all(callers)
  kept.destroy()
  server.closeAllConnections()
  server.close()
  assert.equal(seen.size, 10)
  assert.ok(load.calls > 20, `${load.calls} calls`)
})

test('what cannot be used changes nothing, and is told', async () => {
  const authority = await createAuthority(Date.now())
  const leaf = await issueLeaf(authority, NAMES, Date.now())
  const other = await issueLeaf(authority, NAMES, Date.now())
  const problems: string[] = []
  let swaps = 0
  const serving = createServing((problem) => problems.push(problem))
  serving.attach({ setSecureContext: () => (swaps += 1) })
  const shown = () => serving.current
  assert.equal(serving.update(undefined), false)
  assert.equal(serving.update(secretOf({})), false)
  assert.equal(shown(), null)
  assert.equal(serving.update(secretOf({ 'tls.crt': leaf.cert, 'tls.key': leaf.key, 'ca.crt': authority.cert })), true)
  assert.equal(shown()?.trust, authority.cert)
  assert.equal(serving.update(secretOf({ 'tls.crt': leaf.cert, 'tls.key': other.key })), false)
  assert.equal(serving.update(secretOf({ 'tls.crt': 'nonsense', 'tls.key': other.key })), false)
  assert.equal(shown()?.cert, leaf.cert)
  assert.equal(serving.update(served(leaf)), true)
  assert.equal(swaps, 1)
  assert.deepEqual(problems, [
    'Secret "farebox-tls" has no certificate in tls.crt: what was served stays',
    'Secret "farebox-tls" has no key in tls.key that belongs to tls.crt: what was served stays',
    'Secret "farebox-tls" has no certificate in tls.crt: what was served stays',
  ])
})
