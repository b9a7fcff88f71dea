/** Each case is put to a real API server and to `farebox lint`: both accept it, or both refuse it for the same fields. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkObject } from '@farebox/crds/check.ts'
import { readManifests } from '../../operator/src/core/manifests.ts'
import { pathOf, pathOfOne } from './api.ts'
import type { Refusal } from './api.ts'
import { book, budget, CASES, NAMESPACE, tier } from './cases.ts'
import type { Case, Fault, Manifest } from './cases.ts'
import { withOwnCluster } from './own-cluster.ts'

const CASES_MIN = 60
/** What the API server adds to what is wrong with a shape has no field. */
const NO_FIELD = '<nil>'

const own = withOwnCluster([NAMESPACE])

test('there are enough cases, each with a name of its own', () => {
  const names = CASES.map(({ name, object }) => `${object.kind}: ${name}`)
  assert.ok(names.length >= CASES_MIN, `${names.length} cases`)
  assert.equal(new Set(names).size, names.length)
})

for (const example of CASES) {
  const { name, object, faults, lintAlone } = example
  own.test(
    `T54: ${object.kind}: ${name}: ${faults.length === 0 ? 'accepted' : `refused${lintAlone === undefined ? '' : ' by lint alone'}`}`,
    async () => {
      const { problems } = readManifests([{ path: 'case.yaml', text: JSON.stringify(object) }])
      assert.deepEqual(
        problems.map(({ field, message }) => `${field}: ${message}`).toSorted(),
        faults.map(({ field, says }) => `${field}: ${says}`).toSorted(),
        'what lint says',
      )
      await judgedAlike(example)
    },
  )
}

async function judgedAlike({ object, faults, lintAlone }: Case): Promise<void> {
  const { status, body } = await own.cluster().request<Refusal>({
    method: 'POST',
    path: `${pathOf(object)}?dryRun=All&fieldValidation=Strict`,
    body: object,
  })
  if (faults.length === 0 || lintAlone !== undefined) return assert.equal(status, 201, body.message)
  assert.ok(status === 422 || status === 400, `${status} ${body.message ?? 'accepted'}`)
  const [first] = faults
  if (status === 400) {
    // What cannot be read at all is told in one text, without causes.
    assert.equal(faults.length, 1)
    assert.ok(first?.server !== undefined && body.message.includes(first.server), body.message)
    if (first.server === UNKNOWN) assert.ok(body.message.includes(`unknown field "${first.field}"`), body.message)
    return
  }
  const causes = (body.details?.causes ?? []).filter(({ field }) => field !== NO_FIELD)
  const byField = (a: { readonly field?: string }, b: { readonly field?: string }): number => ((a.field ?? '') < (b.field ?? '') ? -1 : 1)
  const said = causes.toSorted(byField)
  const wanted = faults.map((fault) => ({ ...fault, field: fault.serverField ?? fault.field })).toSorted(byField)
  assert.deepEqual(new Set(said.map(({ field }) => field)), new Set(wanted.map(({ field }) => field)), body.message)
  for (const fault of wanted)
    assert.ok(
      said.some((cause) => cause.field === fault.field && says(cause.message, fault)),
      body.message,
    )
}

const UNKNOWN = 'unknown field'

function says(message: string, { says: own, server }: Fault): boolean {
  return server === undefined ? message === `Invalid value: ${own}` : message.includes(server)
}

const UPSTREAMS = [{ name: 'openai', baseURL: 'https://api.openai.com/v1' }]
const LIMITS = [{ amount: '1', period: { unit: 'Day' } }]
/** Left to whoever reads: a later version may choose more. */
const CHOICES: ReadonlySet<string> = new Set(['carriers', 'userCarriers'])
const ENTRIES = [{ provider: 'openai', model: 'a' }]
for (const [object, lists] of [
  [tier(), {}],
  [budget({ upstreams: UPSTREAMS, limits: LIMITS }), { upstreams: UPSTREAMS, limits: LIMITS }],
  [book({ entries: ENTRIES }), { entries: ENTRIES }],
] as const) {
  own.test(`${object.kind}: the API server fills in what lint and compile take for granted, and leaves lists as they are`, async () => {
    const { status } = await own.cluster().request({ method: 'POST', path: pathOf(object), body: object })
    assert.equal(status, 201)
    const { body } = await own.cluster().request<Manifest>({ path: pathOfOne(object) })
    const [written, stored] = [checkObject(object), checkObject(body)]
    assert.ok(written.status === 'ok' && stored.status === 'ok')
    assert.deepEqual(stored.value.spec, written.value.spec)
    const filledIn = JSON.parse(JSON.stringify({ ...written.value.spec, ...lists }), (key, value: unknown) =>
      CHOICES.has(key) ? undefined : value,
    )
    assert.deepEqual(body['spec'], filledIn)
  })
}
