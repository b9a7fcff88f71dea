/** The app API as docs/app-api.md lists it, row by row: standings, costs, resolutions, and what is asked wrongly. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { get } from 'node:http'
import { gzipSync } from 'node:zlib'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { DAY_MS } from '@farebox/crds/duration.ts'
import { formatUsd, parseUsd } from '@farebox/crds/usd.ts'
import type { Standing } from '@farebox/sidecar/core/standing.ts'
import type { SidecarStatus, TierTotals } from '@farebox/crds/sidecar-status.ts'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract, makePeriod } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'
import type { Talk } from '../support/talk.ts'
import { waitFor } from '../support/wait-for.ts'

const PAGE = readFileSync(new URL('../../docs/app-api.md', import.meta.url), 'utf8')
const API = '/farebox/v1/conversations'
const SOON = { everyMs: 10 }
const BUDGET = '0.10'
/** Priced per resolution: a resolution may cost 0.01; the ladder below the cap is for when it costs more. */
const PER_RESOLUTION = makeContract({
  tier: 'resolved',
  caps: { perConversation: BUDGET },
  pricing: { model: 'PerResolution', targetCostPerResolution: '0.01' },
  models: { allow: [], downgrades: [{ from: 'gpt-4o', to: 'gpt-4o-mini' }] },
  ladder: [
    { atPercent: 5, rung: 'DowngradeModel' },
    { atPercent: 100, rung: 'EndConversation', end: 'Refuse' },
  ],
})

let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider()
  const contracts = [
    makeContract({ caps: { perConversation: BUDGET, perUser: { amount: '0.50', period: makePeriod('Month') } } }),
    PER_RESOLUTION,
    makeContract({ ...PER_RESOLUTION, tier: 'counted' }),
    makeContract({ ...PER_RESOLUTION, tier: 'again' }),
    makeContract({ tier: 'euro', currency: 'EUR', usdRate: '1.25', caps: { perConversation: '0.50' } }),
  ]
  const resolution = { toolNames: ['close_ticket', 'settle_*'] }
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, contracts, { resolution }))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

function talkOf(id: string, headers: Record<string, string> = {}): Talk {
  return startTalk(sidecar, { 'x-farebox-conversation': id, 'x-fake-tag': id, 'x-fake-output-tokens': '100', ...headers })
}

async function totals(tier: string): Promise<TierTotals> {
  const found = ((await sidecar.getJson('/farebox/v1/status')) as SidecarStatus).tiers[tier]
  assert.ok(found !== undefined)
  return found
}

/** Outcomes are counted a moment after the answer has ended. */
async function started(tier: string, count: number): Promise<TierTotals['resolutions']> {
  const look = async (): Promise<TierTotals['resolutions'] | null> => {
    const { resolutions } = await totals(tier)
    return resolutions.started >= count ? resolutions : null
  }
  return waitFor(`${count} conversations of ${tier} are counted`, look, SOON)
}

async function restarted(): Promise<void> {
  await sidecar.kill('SIGTERM')
  await sidecar.start()
}

/** Resolutions are counted by the day of UTC on which their conversations began: a test that says "today" must not go on past its end. */
async function earlyEnoughToday(): Promise<void> {
  const leftMs = DAY_MS - (Date.now() % DAY_MS)
  if (leftMs < 60_000) await sleep(leftMs)
}

describe('a standing', () => {
  test('has the documented fields, by the id of the app or by its hash', async () => {
    const said = await talkOf('order/17 ü', { 'x-farebox-user': 'ann' }).say('Hello.')
    const standing = await sidecar.standing('order/17 ü')
    assert.equal(standing.conversation, said.headers.get('x-farebox-conversation'))
    assert.deepEqual(await sidecar.standing(standing.conversation), standing)
    const fields = PAGE.slice(PAGE.indexOf("A conversation's standing:"))
    const documented = [...fields.matchAll(/`(\w+)`/g)].map(([, name]) => name)
    for (const name of Object.keys(standing)) assert.ok(documented.includes(name), `\`${name}\` must be in docs/app-api.md`)
    for (const driver of Object.keys(standing.drivers)) assert.ok(documented.includes(driver), driver)
    assert.deepEqual([standing.tier, standing.currency, standing.budget, standing.held], ['pro', 'USD', BUDGET, '0.00'])
    assert.deepEqual([standing.state, standing.advice, standing.rung, standing.turns, standing.session], ['open', 'continue', 'None', 1, 1])
    assert.equal(standing.spent, formatUsd(provider.bill.totalNanoUsd('order/17 ü')))
    assert.equal(parseUsd(standing.remaining), parseUsd(BUDGET) - parseUsd(standing.spent))
    assert.equal(
      parseUsd(standing.spent),
      Object.values(standing.drivers).reduce((sum, cost) => sum + parseUsd(cost), 0n),
    )
  })

  test('is found where what the query names is left empty, as an app sends it that fills in every field', async () => {
    await talkOf('empty').say('Hello.')
    await sidecar.idle()
    assert.deepEqual(await sidecar.standing('empty', '?tier=&user='), await sidecar.standing('empty'))
    for (const path of ['users?tier=&limit=100', 'users/nobody?tier=']) await sidecar.getJson(`/farebox/v1/${path}`)
  })

  test("is in the tier's currency", async () => {
    await talkOf('euro', { 'x-farebox-tier': 'euro' }).say('Hello.')
    const { currency, budget, spent } = await sidecar.standing('euro')
    assert.deepEqual([currency, budget], ['EUR', '0.40'])
    assert.equal(parseUsd(spent), (provider.bill.totalNanoUsd('euro') * 4n) / 5n)
  })

  test('is listed with the others, the latest turn first, as many as asked for', async () => {
    for (const id of ['listed 1', 'listed 2', 'listed 3']) await talkOf(id).say('Hello.')
    await talkOf('listed 2').say('Again.')
    const list = async (limit: string): Promise<readonly string[]> =>
      ((await sidecar.getJson(`${API}${limit}`)) as { readonly conversations: readonly Standing[] }).conversations.map(
        ({ conversation }) => conversation,
      )
    const expected = await Promise.all(['listed 2', 'listed 3'].map(async (id) => (await sidecar.standing(id)).conversation))
    assert.deepEqual(await list('?limit=2'), expected)
    assert.ok((await list('')).length >= 4)
    for (const path of [
      'conversations?limit=none',
      'conversations?limit=0',
      'alerts?limit=',
      'users?limit=1.5',
      'ledger?after=-1',
      'ledger?after=zz',
    ]) {
      const answer = await fetch(`${sidecar.url}/farebox/v1/${path}`)
      assert.equal(answer.status, 400, path)
      const { error } = (await answer.json()) as { readonly error: { readonly message: string } }
      assert.match(error.message, /^(limit|after): must be a whole number from [01] on$/, path)
    }
  })
})

test('the status has the config in force and totals per tier', async () => {
  const { config, rejected, callsInFlight, tiers } = (await sidecar.getJson('/farebox/v1/status')) as SidecarStatus
  assert.deepEqual([config.budget, config.mode, rejected, callsInFlight], ['shop/support', 'Enforce', null, 0])
  assert.match(config.hash, /^[0-9a-f]{16}$/)
  assert.deepEqual(Object.keys(tiers).toSorted(), ['again', 'counted', 'euro', 'pro', 'resolved'])
})

describe('costs that the app tells', () => {
  const cost = { cost: '0.04', label: 'vectorSearch', operationId: 'search-1' }

  test('count against the budget, once per operation, over a crash too', async () => {
    const talk = talkOf('costs', { 'x-farebox-user': 'bob' })
    await talk.say('Hello.')
    const before = await sidecar.standing('costs')
    assert.deepEqual(await sidecar.postJson(`${API}/costs/costs`, cost), { status: 200, body: { status: 'charged' } })
    assert.deepEqual(await sidecar.postJson(`${API}/costs/costs`, cost), { status: 200, body: { status: 'exists' } })
    await sidecar.crash()
    assert.deepEqual(await sidecar.postJson(`${API}/costs/costs`, { ...cost, cost: '0.09' }), { status: 200, body: { status: 'exists' } })
    const after = await sidecar.standing('costs')
    assert.equal(parseUsd(after.spent) - parseUsd(before.spent), parseUsd('0.04'))
    assert.deepEqual([after.drivers['other'], after.turns, after.percent], ['0.04', before.turns, 41])
    assert.deepEqual(after.drivers['output'], before.drivers['output'])
  })

  test('of another conversation or operation are others, and are counted by driver', async () => {
    await talkOf('costs 2').say('Hello.')
    await sidecar.postJson(`${API}/costs%202/costs`, cost)
    await sidecar.postJson(`${API}/costs%202/costs`, { ...cost, operationId: 'search-2', cost: '0.005' })
    assert.equal((await sidecar.standing('costs 2')).drivers['other'], '0.045')
    assert.match(await sidecar.metrics(), /farebox_cost_usd_total\{tier="pro",driver="other"\} 0\.045\n/)
  })

  test('may pass the cap: they are facts, and the next turn ends', async () => {
    const talk = talkOf('costs 3')
    await talk.say('Hello.')
    assert.equal((await sidecar.postJson(`${API}/costs%203/costs`, { ...cost, cost: '0.15' })).status, 200)
    const { remaining, percent } = await sidecar.standing('costs 3')
    assert.equal(remaining, '0.00')
    assert.ok(percent > 150)
    assert.equal((await talk.say('Another?')).code, 'conversation_budget_exhausted')
  })

  test('are refused where nothing costs as much', async () => {
    await talkOf('costs 4').say('Hello.')
    const { status, body } = await sidecar.postJson(`${API}/costs%204/costs`, { ...cost, cost: '10000000' })
    assert.equal(status, 400)
    assert.match(JSON.stringify(body), /cost.*must be at most 100000\.00/)
  })

  test("draw on the user's budget as well", async () => {
    await talkOf('carol 1', { 'x-farebox-user': 'carol' }).say('Hello.')
    await sidecar.postJson(`${API}/carol%201/costs`, { ...cost, cost: '0.50' })
    const refused = await talkOf('carol 2', { 'x-farebox-user': 'carol' }).say('Hello.')
    assert.equal(refused.code, 'conversation_budget_exhausted')
  })
})

describe('a resolution', () => {
  const confirm = (id: string): ReturnType<Sidecar['postJson']> =>
    sidecar.postJson(`${API}/${encodeURIComponent(id)}/resolution`, { outcome: 'confirmed' })
  const reverse = (id: string): ReturnType<Sidecar['postJson']> =>
    sidecar.postJson(`${API}/${encodeURIComponent(id)}/resolution`, { outcome: 'reversed' })
  const counted = { 'x-farebox-tier': 'counted' }

  test('is confirmed and reversed once', async () => {
    await talkOf('outcome', counted).say('Hello.')
    await started('counted', 1)
    assert.equal((await reverse('outcome')).status, 409)
    assert.deepEqual(await confirm('outcome'), { status: 200, body: { status: 'added' } })
    assert.deepEqual(await confirm('outcome'), { status: 200, body: { status: 'exists' } })
    assert.equal((await sidecar.standing('outcome')).resolution, 'confirmed')
    const cost = formatUsd(provider.bill.totalNanoUsd('outcome'))
    const counts = { started: 1, assumed: 0, confirmed: 1, cost, isOverTarget: false }
    assert.deepEqual((await totals('counted')).resolutions, { ...counts, reversed: 0, costPer: cost, unresolvedCost: '0.00' })
    assert.deepEqual(await reverse('outcome'), { status: 200, body: { status: 'added' } })
    assert.deepEqual(await reverse('outcome'), { status: 200, body: { status: 'exists' } })
    assert.equal((await sidecar.standing('outcome')).resolution, 'reversed')
    assert.deepEqual((await totals('counted')).resolutions, { ...counts, reversed: 1, costPer: null, unresolvedCost: cost })
  })

  test('can be confirmed again after it was reversed, each time once, over a crash too', async () => {
    await talkOf('again', { 'x-farebox-tier': 'again' }).say('Hello.')
    await started('again', 1)
    for (const round of [1, 2, 3]) {
      assert.deepEqual((await confirm('again')).body, { status: 'added' })
      await sidecar.crash()
      assert.deepEqual((await confirm('again')).body, { status: 'exists' })
      const { confirmed, reversed } = (await totals('again')).resolutions
      assert.deepEqual([confirmed, reversed], [round, round - 1])
      assert.deepEqual((await reverse('again')).body, { status: 'added' })
      assert.deepEqual((await reverse('again')).body, { status: 'exists' })
    }
    const { confirmed, reversed } = (await totals('again')).resolutions
    assert.deepEqual([confirmed, reversed], [3, 3])
  })

  test('follows from an answer that calls a resolving tool', async () => {
    for (const [name, stream] of [
      ['close_ticket', false],
      ['settle_refund', true],
    ] as const) {
      const tools = [{ type: 'function', function: { name, parameters: { type: 'object' } } } as const]
      const id = `by tool ${name}`
      await talkOf(id, { ...counted, 'x-fake-tool-call': name }).say('Thanks, that is all.', { stream, body: { tools } })
      await waitFor(`${id} is confirmed`, async () => (await sidecar.standing(id)).resolution === 'confirmed', SOON)
    }
    assert.equal((await started('counted', 3)).confirmed, 3)
  })

  test('is counted for a conversation whose first call failed', async () => {
    const talk = talkOf('failed first', counted)
    assert.equal((await talk.say('Hello.', { headers: { 'x-fake-status': '500' } })).status, 500)
    await talk.say('Hello.')
    assert.equal((await started('counted', 4)).started, 4)
  })

  test('decides whether the ladder below the cap applies to conversations that begin from then on', async () => {
    await earlyEnoughToday()
    const headers = { 'x-farebox-tier': 'resolved', 'x-fake-output-tokens': '600' }
    const rungAfter = async (id: string): Promise<string | null> => {
      const talk = talkOf(id, headers)
      await talk.say('Hello.')
      return (await talk.say('And then?')).headers.get('x-farebox-rung')
    }
    assert.equal(await rungAfter('on target'), 'None', 'nobody knows yet')
    const ids = Array.from({ length: 49 }, (_, index) => `unresolved ${index}`)
    await Promise.all(ids.map((id) => talkOf(id, headers).say('Hello.', { body: { max_tokens: 600 } })))
    await started('resolved', 50)
    await restarted() // what was looked up is kept for a minute
    assert.equal(await rungAfter('on target still'), 'None', '50 began today: they may still be resolved')
    ids.push('on target')
    for (const outcome of [confirm, reverse]) assert.ok((await Promise.all(ids.map(outcome))).every(({ status }) => status === 200))
    await restarted()
    assert.equal(await rungAfter('over target'), 'DowngradeModel', '50 were resolved, and none stayed so')
    assert.equal((await talkOf('on target', headers).say('Go on.')).headers.get('x-farebox-rung'), 'None', 'begun before')

    const confirmed = await Promise.all(ids.map((id) => confirm(id)))
    assert.ok(confirmed.every(({ status }) => status === 200))
    await restarted()
    assert.equal(await rungAfter('on target again'), 'None')
    assert.equal((await talkOf('over target', headers).say('Go on.')).headers.get('x-farebox-rung'), 'DowngradeModel')
  })
})

describe('what is asked wrongly', () => {
  before(() => talkOf('asked').say('Hello.'))
  const cost = { cost: '0.01', label: 'search', operationId: '1' }
  const bodies: readonly { readonly name: string; readonly path: string; readonly body: unknown; readonly message: RegExp }[] = [
    { name: 'a cost that is a float', path: 'costs', body: { ...cost, cost: 0.01 }, message: /^cost: / },
    { name: 'a cost below zero', path: 'costs', body: { ...cost, cost: '-0.01' }, message: /^cost: must be a decimal amount in quotes/ },
    { name: 'a cost without an operation', path: 'costs', body: { cost: '0.01', label: 'search' }, message: /^operationId: / },
    { name: 'a cost with an unknown field', path: 'costs', body: { ...cost, currency: 'EUR' }, message: /currency/ },
    { name: 'a cost with an empty label', path: 'costs', body: { ...cost, label: '' }, message: /^label: / },
    { name: 'a cost with a label of 65 characters', path: 'costs', body: { ...cost, label: '😀'.repeat(65) }, message: /^label: / },
    { name: 'a cost whose label has a line break', path: 'costs', body: { ...cost, label: 'a\nb' }, message: /^label: must be without/ },
    { name: 'an operation with a tab', path: 'costs', body: { ...cost, operationId: 'job\t7' }, message: /^operationId: must be without/ },
    {
      name: 'an operation with half a character',
      path: 'costs',
      body: '{"cost":"0.01","label":"search","operationId":"\\ud801"}',
      message: /^operationId: must be without/,
    },
    { name: 'an unknown outcome', path: 'resolution', body: { outcome: 'solved' }, message: /^outcome: / },
    { name: 'a body that is not JSON', path: 'resolution', body: '{"outcome":', message: /^body: / },
    { name: 'no body', path: 'costs', body: '', message: /cost/ },
  ]
  test('a label and an operation are measured in characters', async () => {
    const answer = await sidecar.postJson(`${API}/asked/costs`, { ...cost, label: '😀'.repeat(64), operationId: '😀'.repeat(128) })
    assert.deepEqual([answer.status, answer.body], [200, { status: 'charged' }])
  })
  for (const { name, path, body, message } of bodies) {
    test(`${name} is a 400 that names the field`, async () => {
      const answer = await sidecar.postJson(`${API}/asked/${path}`, body)
      assert.equal(answer.status, 400)
      assert.match((answer.body as { readonly error: { readonly message: string } }).error.message, message)
    })
  }

  test('a body that is wrong in very many places is answered in few words', async () => {
    const keys = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`key${index}`, 1]))
    const { status, body } = await sidecar.postJson(`${API}/asked/costs`, keys)
    assert.equal(status, 400)
    assert.ok(JSON.stringify(body).length < 2_000)
  })

  test('a body that is larger than any that is of use is refused, and one that nobody asked for is not read', async () => {
    const large = `[${'{},'.repeat(100_000)}{}]`
    for (const path of [`${API}/asked/costs`, `${API}/asked/resolution`, '/farebox/v1/balances']) {
      const { status, body } = await sidecar.postJson(path, large)
      assert.equal(status, 413, path)
      assert.match((body as { readonly error: { readonly message: string } }).error.message, /larger than 256 KiB/)
    }
    const packed = await fetch(`${sidecar.url}${API}/asked/costs`, {
      method: 'POST',
      headers: { 'content-encoding': 'gzip' },
      body: new Uint8Array(gzipSync(large)),
    })
    assert.equal(packed.status, 413)
    const unannounced = await fetch(`${sidecar.url}${API}/asked/costs`, {
      method: 'POST',
      body: new Blob([large]).stream(),
      duplex: 'half',
    })
    assert.equal(unannounced.status, 413)
    assert.match(await unannounced.text(), /larger than 256 KiB/)
    assert.equal((await sidecar.postJson('/farebox/v1/nothing', large)).status, 404)
    assert.equal((await sidecar.postJson(`${API}/asked/boundary`, '{not JSON')).status, 200)
    const accounts = Array.from({ length: 1_000 }, (_, index) => String(index).padStart(200, '0'))
    assert.equal((await sidecar.postJson('/farebox/v1/balances', { accounts })).status, 200)
  })

  test('a page whose own domain was made to lead here is told nothing', async () => {
    const statusFor = (host: string): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        get(`${sidecar.url}${API}/asked`, { headers: { host } }, (answer) => {
          answer.resume()
          resolve(answer.statusCode)
        }).on('error', reject)
      })
    assert.equal(await statusFor('evil.example:4180'), 403)
    assert.equal(await statusFor('localhost:4180'), 200)
  })

  test('what is not there is a 404, and changes nothing', async () => {
    const before = await sidecar.standing('asked')
    for (const path of [
      `${API}/nobody`,
      `${API}/asked/more`,
      `${API}/asked?tier=euro`,
      `${API}/asked?tier=gold`,
      '/farebox/v1/other',
      '/farebox/v1/alerts/1',
    ])
      assert.equal((await fetch(`${sidecar.url}${path}`)).status, 404, path)
    for (const path of [`${API}/nobody/costs`, `${API}/asked/close`, `${API}/asked`, API, '/farebox/v1/status'])
      assert.equal((await sidecar.postJson(path, cost)).status, 404, path)
    assert.equal((await fetch(`${sidecar.url}${API}/asked`, { method: 'DELETE' })).status, 404)
    assert.deepEqual(await sidecar.standing('asked'), before)
  })
})
