/** What values a chart takes: each is explained, each is checked, and a wrong one is refused in words that help. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ResourceSettingsSchema } from '@farebox/operator/core/resources.ts'
import { LEDGER_LIFE_MS_MIN } from '@farebox/sidecar/store/store.ts'
import { load } from 'js-yaml'
import { STORE_ADDRESSES } from '../support/store-addresses.ts'
import { CHARTS, helm, helmOrNull } from './helm.ts'

const DAY_MS = 86_400_000

const program = await helmOrNull(4)
const options = program === null ? { skip: 'helm is missing' } : {}

interface Schema {
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: unknown
  readonly minimum?: number
}

const valuesText = readFileSync(`${CHARTS}farebox/values.yaml`, 'utf8')
const schema = JSON.parse(readFileSync(`${CHARTS}farebox/values.schema.json`, 'utf8')) as Schema

test('each value has a comment before it, and each leaf of the schema is a value', () => {
  const lines = valuesText.split('\n')
  const uncommented = lines.flatMap((line, index) => {
    const isValue = /^ *[a-zA-Z]+: ?\S/.test(line)
    return isValue && !/^ *#/.test(lines[index - 1] ?? '') && !isOneOfPair(lines, index) ? [line.trim()] : []
  })
  assert.deepEqual(uncommented, [])
  assert.deepEqual(leavesOf(schema, ''), leavesOfValues(load(valuesText), schema, ''))
})

test('what the API server lets nobody change in a StatefulSet is said where it is set', () => {
  const template = readFileSync(`${CHARTS}farebox/templates/store/valkey.yaml`, 'utf8')
  const [claims = ''] = /\n {2}\{\{- if .*\n.*persistentVolumeClaimRetentionPolicy:[^]*?\n {2}\{\{- end \}\}/.exec(template) ?? []
  const names = new Set([...claims.matchAll(/\$valkey\.persistence\.(\w+)/g)].map(([, name = '']) => name))
  assert.deepEqual([...names], ['enabled', 'storageClassName', 'size'])
  for (const name of names) {
    const [comment = ''] = new RegExp(`( *#.*\n)+ {6}${name}:`).exec(valuesText) ?? []
    assert.match(comment, /Cannot be changed later without deleting the StatefulSet/, name)
  }
})

test('no object of the schema takes a name that it does not know', () => {
  assert.deepEqual(openObjects(schema, ''), [])
})

const REFUSED: readonly (readonly [what: string, set: readonly string[], says: RegExp])[] = [
  ['a name that there is not', ['operator.replica=3'], /\/operator.*'replica' not allowed/],
  ['a name that there is not, at the top', ['sidecars.image.tag=1'], /'sidecars' not allowed/],
  ['no replica', ['operator.replicas=0'], /\/operator\/replicas.*minimum/],
  ['a pull policy', ['sidecar.image.pullPolicy=Sometimes'], /\/sidecar\/image\/pullPolicy.*one of 'Always', 'IfNotPresent', 'Never'/],
  ['a failure policy', ['webhook.failurePolicy=Open'], /\/webhook\/failurePolicy.*one of 'Ignore', 'Fail'/],
  ['a timeout that the API server does not know', ['webhook.timeoutSeconds=40'], /\/webhook\/timeoutSeconds.*maximum/],
  ['a port that only root may open', ['webhook.port=443'], /\/webhook\/port.*minimum/],
  ['a digest that is none', ['operator.image.digest=sha256:1'], /\/operator\/image\/digest.*pattern/],
  ['a quote where it would end a policy', ["sidecar.image.repository=x'y"], /\/sidecar\/image\/repository.*pattern/],
  ['a quote in a user', ["admissionPolicies.configWriters[0]=x'y"], /configWriters.*pattern/],
  ['a namespace that cannot be', ['webhook.excludedNamespaces[0]=Kube_System'], /excludedNamespaces.*pattern/],
  ['memory that Valkey does not understand', ['store.valkey.maxMemory=1Gi'], /\/store\/valkey\/maxMemory.*pattern/],
  ['root as the user of the store', ['store.valkey.runAsUser=0'], /\/store\/valkey\/runAsUser.*minimum/],
  ['the ports of the operator for its webhook', ['webhook.port=9444'], /\/webhook\/port.*not/],
  ['a ledger that is shorter than accounts live', ['sidecar.ledgerDays=69'], /\/sidecar\/ledgerDays.*minimum/],
  ['a quote in a repository of sidecars', ["admissionPolicies.sidecarRepositories[0]=x'y"], /sidecarRepositories.*pattern/],
  ['resources of another spelling', ['operator.resources.limit.memory=1Gi'], /\/operator\/resources.*'limit' not allowed/],
  ['no CPU for sidecars', ['sidecar.resources.limits.cpu=0'], /\/sidecar\/resources\/limits\/cpu.*minimum/],
  ['no memory for sidecars', ['sidecar.resources.limits.memory=0Mi'], /\/sidecar\/resources\/limits\/memory.*pattern/],
  [
    'memory for sidecars that is below what they ask for',
    ['sidecar.resources.requests.memory=512Mi'],
    /sidecar.resources.limits.memory must not be below sidecar.resources.requests.memory: 256Mi is below 512Mi/,
  ],
  [
    'CPU for sidecars that is below what they ask for',
    ['sidecar.resources.requests.cpu=2', 'sidecar.resources.limits.cpu=1500m'],
    /sidecar.resources.limits.cpu must not be below sidecar.resources.requests.cpu: 1500m is below 2/,
  ],
  [
    'a disruption budget by which no replica may go',
    ['operator.podDisruptionBudget.minAvailable=2'],
    /operator.podDisruptionBudget.minAvailable must leave fewer than operator.replicas: 2 of 2/,
  ],
  [
    'a share of the replicas that is all of them, rounded up',
    ['operator.replicas=3', 'operator.podDisruptionBudget.minAvailable=67%'],
    /operator.podDisruptionBudget.minAvailable must leave fewer than operator.replicas: 67% of 3/,
  ],
  ['a pull secret that no Secret can be called', ['imagePullSecrets[0]=registry..example'], /\/imagePullSecrets\/0.*pattern/],
  ['resources that the injection does not know', ['sidecar.resources.limits.ephemeral-storage=1Gi'], /'ephemeral-storage' not allowed/],
  [
    'a store of yours without its secret',
    ['store.redis.address=redis://redis:6379'],
    /store.redis.existingSecret must name a Secret with admin-password and root-key/,
  ],
  ['a Secret of a store that there is not', ['store.redis.existingSecret=x'], /store.redis.existingSecret needs store.redis.address/],
  [
    'a certificate of yours without its CA',
    ['certificates.existingSecret=x'],
    /certificates.caBundle must hold the CA of certificates.existingSecret/,
  ],
  [
    'a CA of yours for a certificate of ours',
    ['certificates.caBundle=-----BEGIN CERTIFICATE-----MIIB'],
    /certificates.caBundle goes with certificates.existingSecret alone/,
  ],
  [
    'a CA of yours for a certificate of cert-manager',
    ['certificates.certManager.enabled=true', 'certificates.caBundle=-----BEGIN CERTIFICATE-----MIIB'],
    /certificates.caBundle goes with certificates.existingSecret alone/,
  ],
  [
    'two who issue the certificate',
    ['certificates.certManager.enabled=true', 'certificates.existingSecret=x'],
    /certificates.certManager.enabled and certificates.existingSecret exclude each other/,
  ],
]
for (const [what, set, says] of REFUSED) {
  test(`refuses ${what}`, options, () => {
    const { code, stderr } = helm(program ?? '', ['template', 'farebox', `${CHARTS}farebox`, ...set.flatMap((one) => ['--set', one])])
    assert.notEqual(code, 0)
    assert.match(stderr.replaceAll('\n', ' '), says)
  })
}

test('takes resources of sidecars that the operator takes, whatever their suffixes', options, () => {
  const amounts = ['1', '2', '0.5', '500m', '1500m', '1k', '1Ki', '0.001M', '1Mi', '1.1M', '0.5Gi', '512Mi', '600M', '1G', '0.001T', '1Ti']
  for (const [index, request] of amounts.entries()) {
    const limit = amounts[(index * 7 + 3) % amounts.length] ?? ''
    const resources = { requests: { cpu: request, memory: request }, limits: { cpu: limit, memory: limit } }
    const set = ['requests', 'limits'].flatMap((kind) =>
      ['cpu', 'memory'].map((name) => `sidecar.resources.${kind}.${name}=${kind === 'requests' ? request : limit}`),
    )
    const { code } = helm(program ?? '', ['template', 'farebox', `${CHARTS}farebox`, ...set.flatMap((one) => ['--set', one])])
    assert.equal(code === 0, ResourceSettingsSchema.safeParse(resources).success, `${limit} for ${request}`)
  }
})

test('what is left out of the resources of sidecars is nothing that the operator refuses', options, () => {
  for (const set of [
    ['sidecar.resources=null'],
    ['sidecar.resources.limits=null', 'sidecar.resources.requests.memory=512Mi'],
    ['sidecar.resources.requests=null', 'sidecar.resources.limits.cpu=30m', 'sidecar.resources.limits.memory=64Mi'],
    ...['limits.cpu=null|requests.cpu=4', 'limits.memory=null|requests.memory=512Mi', 'requests.cpu=null|limits.cpu=30m'].map((pair) =>
      pair.split('|').map((one) => `sidecar.resources.${one}`),
    ),
  ]) {
    const { code, stdout, stderr } = helm(program ?? '', [
      'template',
      'farebox',
      `${CHARTS}farebox`,
      ...set.flatMap((one) => ['--set', one]),
    ])
    assert.equal(code, 0, stderr)
    const [, text = ''] = /name: FAREBOX_SIDECAR_RESOURCES\n +value: (".*")$/m.exec(stdout) ?? []
    const { success, data } = ResourceSettingsSchema.safeParse(JSON.parse(String(load(text))))
    assert.ok(success, `${set.join(', ')}: ${text}`)
    if (set.some((one) => /limits(?:\.memory)?=null|resources=null/.test(one))) assert.equal(data.limits.memory, undefined, text)
  }
})

test('takes a disruption budget by which a replica may go', options, () => {
  for (const set of [
    ['minAvailable=2', '3'],
    ['minAvailable=50%', '2'],
    ['minAvailable=0', '2'],
    ['minAvailable=1', '1'],
  ] as const) {
    const [least, replicas] = set
    const values = ['--set', `operator.podDisruptionBudget.${least}`, '--set', `operator.replicas=${replicas}`]
    const { code, stderr } = helm(program ?? '', ['template', 'farebox', `${CHARTS}farebox`, ...values])
    assert.equal(code, 0, stderr)
  }
})

test('takes pull secrets that are called like their registry', options, () => {
  const name = `registry.example.com.${'x'.repeat(63)}`
  const set = ['--set', `imagePullSecrets[0]=${name}`, '--set', `sidecar.pullSecrets[0]=${name}`]
  const { code, stdout, stderr } = helm(program ?? '', ['template', 'farebox', `${CHARTS}farebox`, ...set])
  assert.equal(code, 0, stderr)
  assert.ok(stdout.split(name).length > 2)
})

test('takes those addresses of a store that the operator takes', options, () => {
  for (const { address, isTaken } of STORE_ADDRESSES) {
    const set = [`store.redis.address=${address.replaceAll(',', '\\,')}`, 'store.redis.existingSecret=x']
    const { code, stderr } = helm(program ?? '', ['template', 'farebox', `${CHARTS}farebox`, ...set.flatMap((one) => ['--set', one])])
    if (isTaken) assert.equal(code, 0, `${address}: ${stderr}`)
    else assert.match(stderr.replaceAll('\n', ' '), /\/store\/redis\/address.*pattern/, address)
  }
})

test('the ledger is kept for as long as sidecars must keep it', () => {
  const { minimum } = schema.properties?.['sidecar']?.properties?.['ledgerDays'] ?? {}
  assert.equal((minimum ?? 0) * DAY_MS, LEDGER_LIFE_MS_MIN)
})

test('the chart of the kinds takes no values', options, () => {
  const { code, stderr } = helm(program ?? '', ['template', 'crds', `${CHARTS}farebox-crds`, '--set', 'keep=false'])
  assert.notEqual(code, 0)
  assert.match(stderr, /'keep' not allowed/)
})

test('both charts and the programs are of one version', () => {
  const { version } = JSON.parse(readFileSync(`${CHARTS}../package.json`, 'utf8')) as { readonly version: string }
  for (const name of ['farebox', 'farebox-crds']) {
    const chart = load(readFileSync(`${CHARTS}${name}/Chart.yaml`, 'utf8')) as Readonly<Record<string, unknown>>
    assert.deepEqual([chart['version'], chart['appVersion']], [version, version], name)
  }
})

/** Requests and limits share a comment. */
function isOneOfPair(lines: readonly string[], index: number): boolean {
  const [line = '', before = ''] = [lines[index], lines[index - 1]]
  return line.trim().startsWith('requests:') || (line.trim().startsWith('limits:') && before.trim().startsWith('requests:'))
}

function leavesOf(part: Schema, path: string): readonly string[] {
  if (part.properties === undefined) return [path]
  return Object.entries(part.properties)
    .filter(([name]) => path !== '' || name !== 'global')
    .flatMap(([name, inner]) => leavesOf(inner, path === '' ? name : `${path}.${name}`))
    .filter((leaf) => !leaf.includes('issuerRef.') && !/[.](requests|limits)$/.test(leaf))
    .toSorted()
}

function leavesOfValues(values: unknown, part: Schema, path: string): readonly string[] {
  if (part.properties === undefined || typeof values !== 'object' || values === null) return [path]
  if (path.endsWith('issuerRef')) return []
  return Object.entries(values)
    .flatMap(([name, inner]) => leavesOfValues(inner, part.properties?.[name] ?? {}, path === '' ? name : `${path}.${name}`))
    .filter((leaf) => !/[.](requests|limits)$/.test(leaf))
    .toSorted()
}

function openObjects(part: Schema, path: string): readonly string[] {
  if (part.properties === undefined) return []
  return [
    ...(part.additionalProperties === false ? [] : [path]),
    ...Object.entries(part.properties).flatMap(([name, inner]) => openObjects(inner, `${path}.${name}`)),
  ]
}
