import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { formatAddress } from '@farebox/crds/address.ts'
import { Command } from 'commander'
import { freeAddresses } from '../laptop/addresses.ts'
import { addReplayCommand } from './replay-command.ts'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
const CONVERSATIONS = fileURLToPath(new URL('../../../examples/support-desk/conversations.ndjson', import.meta.url))

test('an address where nobody listens is told at once, by its flag', { timeout: 20_000 }, async () => {
  const [address] = await freeAddresses(1)
  assert.ok(address)
  const url = `http://${formatAddress(address)}/openai/v1`
  const program = new Command()
  addReplayCommand(program)
  await assert.rejects(program.parseAsync(['replay', CONVERSATIONS, '--limit', '1', '--base-url', url], { from: 'user' }), {
    message: `--base-url ${url}: nothing answers there (ECONNREFUSED)`,
  })
})

test('each replay is of new conversations and users, which are named once; on purpose it goes on in those of the recording', async (t) => {
  const asked: string[] = []
  const server = createServer((request, response) => {
    const { 'x-farebox-conversation': conversation, 'x-farebox-user': user, 'x-farebox-tier': tier } = request.headers
    asked.push(`${String(conversation)}, ${String(user)}, ${String(tier)}`)
    request.resume()
    const message = { role: 'assistant', content: 'hello' }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ id: 'x', object: 'chat.completion', choices: [{ index: 0, message, finish_reason: 'stop' }] }))
  }).listen(0, '127.0.0.1')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const replayed = async (...flags: readonly string[]): Promise<{ readonly said: string; readonly ids: readonly string[] }> => {
    asked.length = 0
    const url = `http://127.0.0.1:${port}/v1`
    const child = spawn(process.execPath, [MAIN, 'replay', CONVERSATIONS, '--limit', '1', '--base-url', url, '--tier', 'pro', ...flags])
    const [said, , [code]] = await Promise.all([text(child.stderr), text(child.stdout), once(child, 'exit')])
    assert.equal(code, 0, said)
    return { said, ids: [...new Set(asked)] }
  }
  const first = await replayed()
  const suffix = /^the ids of this replay end in (-[0-9a-z]+), as in: farebox explain conversation support-late-parcel\1\n/.exec(
    first.said,
  )?.[1]
  assert.ok(suffix, first.said)
  const idsWith = (end: string) => [`support-late-parcel${end}, user of support-late-parcel${end}, pro`]
  assert.deepEqual(first.ids, idsWith(suffix))
  const second = await replayed()
  assert.equal(second.ids.length, 1)
  assert.notDeepEqual(second.ids, first.ids)
  assert.deepEqual((await replayed('--id-suffix', suffix)).ids, first.ids, 'goes on in the first')
  const plain = await replayed('--id-suffix', '')
  assert.deepEqual(plain.ids, idsWith(''))
  assert.doesNotMatch(plain.said, /end in/)
})
