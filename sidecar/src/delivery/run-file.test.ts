import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { RunFile } from './run-file.ts'
import { StalenessWatch } from './staleness.ts'
import { Trust } from './trust.ts'
import { selfSigned } from '../proxy/certificates.testing.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farebox-run-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

const runFile = (dataDir: string, nowMs: number): RunFile => new RunFile(dataDir, nowMs, (error) => assert.fail(error))

test('each run begins later than the one before, even when the clock was set back; the books keep their name', () => {
  const first = runFile(folder, 5_000)
  const second = runFile(folder, 1_000)
  const third = runFile(folder, 9_000)
  assert.deepEqual([first.runSinceMs, second.runSinceMs, third.runSinceMs], [5_000, 5_001, 9_000])
  assert.match(first.books, /^[0-9a-f]{32}$/)
  assert.equal(third.books, first.books)
  writeFileSync(join(folder, 'delivery.json'), '{"runSinceMs":"half')
  assert.equal(runFile(folder, 7_000).runSinceMs, 7_000)
})

test('a folder that takes no files keeps no run from beginning; what is wrong is told once, with the path', () => {
  const told: string[] = []
  writeFileSync(join(folder, 'taken'), '')
  const run = new RunFile(join(folder, 'taken'), 5_000, ({ message }) => told.push(message))
  assert.equal(run.runSinceMs, 5_000)
  assert.match(run.books, /^[0-9a-f]{32}$/)
  run.confirmed(6_000)
  run.keepPlainClaims({ budget: 'shop/support', tiers: [] })
  assert.deepEqual(run.plainClaims, { budget: 'shop/support', tiers: [] })
  assert.equal(told.length, 1)
  assert.match(told[0] ?? '', /taken\/delivery[.]json cannot be written: ENOTDIR/)
})

test('a config goes stale after its time, a restart does not make it fresh, a confirmation does', () => {
  const onStale = { afterMs: 60_000, action: 'Deny' } as const
  runFile(folder, 1).confirmed(Date.now() - 61_000)
  const staleness = new StalenessWatch(runFile(folder, 2))
  assert.equal(staleness.isStale, false, 'before a config says how long that is')
  staleness.follow({ onStale, mode: 'Enforce' })
  assert.deepEqual([staleness.isStale, staleness.denies, staleness.inThisRunMs], [true, true, null])
  staleness.follow({ onStale: { ...onStale, action: 'Continue' }, mode: 'Enforce' })
  assert.deepEqual([staleness.isStale, staleness.denies], [true, false])
  staleness.follow({ onStale, mode: 'Observe' })
  assert.deepEqual([staleness.isStale, staleness.denies], [true, false])
  staleness.follow({ onStale, mode: 'Enforce' })
  staleness.confirmed()
  assert.deepEqual([staleness.isStale, staleness.denies], [false, false])
  assert.ok((staleness.inThisRunMs ?? -1) >= 0)
  staleness.stop()
})

test('where no operator was ever met, restarts do not make a config fresh: it is as old as the pod', () => {
  const [, , third] = [61_000, 30_000, 0].map((agoMs) => runFile(folder, Date.now() - agoMs))
  assert.ok(third)
  const staleness = new StalenessWatch(third)
  staleness.follow({ onStale: { afterMs: 60_000, action: 'Deny' }, mode: 'Enforce' })
  assert.equal(staleness.denies, true)
  staleness.confirmed()
  staleness.stop()
  assert.equal(staleness.denies, false)
  assert.ok(Date.now() - runFile(folder, Date.now()).knownGoodAtMs < 10_000)
})

test('what is trusted is the mounted bundle as it is now, and what the operator told; nobody is never everybody', async () => {
  const [mounted, told, next] = ['a', 'b', 'c'].map((name) => selfSigned([name], { byAddress: false }).cert.trim())
  const file = join(folder, 'ca.crt')
  const trust = new Trust(file, runFile(folder, 5_000))
  await assert.rejects(trust.certificates(), /ENOENT/)
  writeFileSync(file, 'no certificate')
  await assert.rejects(trust.certificates(), /holds no certificate/)
  writeFileSync(file, `${mounted}\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`)
  assert.equal(await trust.certificates(), mounted)
  assert.equal(trust.tell('nothing'), false)
  assert.equal(trust.tell(`${told}\n`), true)
  assert.equal(await trust.certificates(), `${mounted}\n${told}`)
  writeFileSync(file, next ?? '')
  assert.equal(await trust.certificates(), `${next}\n${told}`)
  rmSync(file)
  assert.equal(await trust.certificates(), `${next}\n${told}`)
})

test('which plain claims were taken is known to the next run, and kept beside what else changes', () => {
  const claims = { budget: 'shop/support', tiers: ['free', 'pro'] }
  const first = runFile(folder, 5_000)
  assert.equal(first.plainClaims, null)
  first.keepPlainClaims(claims)
  first.confirmed(7_000)
  const second = runFile(folder, 8_000)
  assert.deepEqual([second.plainClaims, second.knownGoodAtMs], [claims, 7_000])
  second.keepPlainClaims(null)
  const third = runFile(folder, 9_000)
  assert.deepEqual([third.plainClaims, third.knownGoodAtMs], [null, 7_000])
})

test('whom an earlier run was told to trust counts where the mounted bundle is gone, and nowhere else', async () => {
  const [mounted, told, next] = ['a', 'b', 'c'].map((name) => selfSigned([name], { byAddress: false }).cert.trim())
  const file = join(folder, 'ca.crt')
  writeFileSync(file, mounted ?? '')
  const first = new Trust(file, runFile(folder, 5_000))
  first.tell(`${told}\n`)
  rmSync(file)
  const second = new Trust(file, runFile(folder, 6_000))
  assert.equal(await second.certificates(), told)
  writeFileSync(file, '')
  assert.equal(await second.certificates(), told)
  writeFileSync(file, mounted ?? '')
  assert.equal(await second.certificates(), mounted, 'the authority of then may be gone')
  second.tell(next ?? '')
  rmSync(file)
  assert.equal(await new Trust(file, runFile(folder, 7_000)).certificates(), next)
})
