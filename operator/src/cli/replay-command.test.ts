import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { freeAddresses, formatAddress } from '../laptop/addresses.ts'
import { addReplayCommand } from './replay-command.ts'

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
