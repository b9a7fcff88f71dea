import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { freeAddresses } from './addresses.ts'
import { startLaptop } from './laptop.ts'

test('a folder of claim keys must be there, and is said to be empty while it is', async (t) => {
  const { folder, startWith } = withoutManifests(t)
  const keys = join(folder, 'keys')
  const missing = await startWith(keys)
  assert.match(missing.error, /^--claim-keys \S+\/keys: must be a folder, with a file for each key \(ENOENT/)
  mkdirSync(keys)
  writeFileSync(join(keys, '.gitignore'), '*')
  const empty = await startWith(keys)
  assert.doesNotMatch(empty.error, /claim-keys/)
  assert.deepEqual(empty.said, [`--claim-keys ${keys}: holds no keys: until it does, no claim is accepted`])
  writeFileSync(join(keys, '2026-11'), 'x'.repeat(32))
  assert.deepEqual((await startWith(keys)).said, [])
})

/** Nothing starts: there are no manifests. */
function withoutManifests(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-laptop-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return {
    folder,
    startWith: async (claimKeysDir: string) => {
      const [listen, admin] = await freeAddresses(2)
      assert.ok(listen !== undefined && admin !== undefined)
      const said: string[] = []
      const started = startLaptop({
        folder: join(folder, 'manifests'),
        listen,
        admin,
        dataDir: join(folder, 'data'),
        upstreams: new Map(),
        storeUrl: null,
        claimKeysDir,
        budget: null,
        say: (line) => void said.push(line),
      })
      const error = await started.then(
        () => assert.fail('it started'),
        (reason: unknown) => (reason instanceof Error ? reason.message : String(reason)),
      )
      return { said, error }
    },
  }
}
