/** The policies of the chart, at work in a real API server with no operator there: nothing of ours has to be up for them. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { CONFIG_MAP_PREFIX, LABELS, MANAGED_BY, RUNTIME_SECRET, SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import { matches } from '@farebox/operator/core/selector.ts'
import type { Labels, Selector } from '@farebox/operator/core/selector.ts'
import { waitFor } from '../support/wait-for.ts'
import { ownCluster } from '../support/cluster.ts'
import { CHARTS, NAMESPACE } from './helm.ts'

const found = await ownCluster()
const options = found === null ? { skip: 'there is no control plane' } : {}
const cluster = (): NonNullable<typeof found> => {
  assert.ok(found !== null)
  return found
}

const SHOP = 'shop'
const OTHER = 'other'
/** Where the sidecar came from once, as its installation says. */
const FORMER = 'registry.example.com:5000/team/farebox-sidecar'
const SIDECAR = { name: SIDECAR_CONTAINER, image: 'farebox-sidecar:0.1.0', restartPolicy: 'Always' }

describe('policies of the chart', options, () => {
  before(async () => {
    for (const name of [NAMESPACE, SHOP, OTHER]) {
      await ask('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
      await waitFor(
        `the service account of ${name}`,
        async () => (await cluster().request({ path: `/api/v1/namespaces/${name}/serviceaccounts/default` })).status === 200,
      )
    }
    await cluster().helm(['install', 'farebox-crds', `${CHARTS}farebox-crds`, '--namespace', NAMESPACE])
    const accepts = ['--set', `admissionPolicies.sidecarRepositories={${FORMER},mirror.example.com/hub/farebox-sidecar}`]
    await cluster().helm(['install', 'farebox', `${CHARTS}farebox`, '--namespace', NAMESPACE, ...accepts])
    await applyBudget({ app: 'desk' })
    await waitFor('the gate', async () => (await createPod({ labels: { app: 'desk' } })).status === 403)
  })
  after(() => found?.stop())

  test('T20: a pod of a Required budget without sidecar is refused, and told by whom and what to do; other namespaces pass', async () => {
    const { status, body } = await createPod({ labels: { app: 'desk' } })
    assert.equal(status, 403)
    assert.match(
      body.message,
      /ConversationBudget shop\/desk demands the farebox sidecar \(spec.injection.mode: Required\), and this pod has none. See whether the operator is there: kubectl -n farebox-system get pods, or let pods start without a sidecar by spec.injection.mode: BestEffort/,
    )
    assert.equal((await createPod({ labels: { app: 'other' } })).status, 201, 'not selected')
    assert.equal((await createPod({ namespace: OTHER, labels: { app: 'desk' } })).status, 201, 'another namespace')
  })

  test('T20: a pod with the sidecar passes, whatever its version; one that merely looks so does not', async () => {
    const labels = { app: 'desk' }
    const digest = `sha256:${'0'.repeat(64)}`
    for (const image of ['farebox-sidecar:0.0.9', `farebox-sidecar@${digest}`, `${FORMER}:0.0.9`, `${FORMER}@${digest}`]) {
      assert.equal((await createPod({ labels, spec: { initContainers: [{ ...SIDECAR, image }] } })).status, 201, image)
    }
    const refused: readonly (readonly [what: string, spec: object])[] = [
      ['another image', { initContainers: [{ ...SIDECAR, image: 'example.com/farebox-sidecar:0.1.0' }] }],
      ['an image whose name begins alike', { initContainers: [{ ...SIDECAR, image: 'farebox-sidecar-of-mine:1' }] }],
      ['an image whose name ends alike', { initContainers: [{ ...SIDECAR, image: `other/${FORMER}:1` }] }],
      ['another name', { initContainers: [{ ...SIDECAR, name: 'sidecar' }] }],
      ['no native sidecar', { initContainers: [{ name: SIDECAR.name, image: SIDECAR.image }] }],
    ]
    for (const [what, spec] of refused) assert.equal((await createPod({ labels, spec })).status, 403, what)
  })

  test('the refusal says what keeps the sidecar out, where the pod itself does', async () => {
    const labels = { app: 'desk' }
    const said = async (parts: PodParts): Promise<string> => (await createPod(parts)).body.message
    assert.match(await said({ labels: { ...labels, [LABELS.inject]: 'disabled' } }), /Its label farebox.dev\/inject keeps the sidecar out/)
    assert.match(await said({ labels, spec: { hostNetwork: true } }), /It asks for hostNetwork/)
    assert.match(
      await said({ labels, spec: { initContainers: [{ name: SIDECAR.name, image: 'mine' }] } }),
      /It has a container of its own named farebox/,
    )
    assert.match(
      await said({ labels, spec: { initContainers: [{ ...SIDECAR, image: 'mirror.test/farebox-sidecar:1' }] } }),
      /and this pod has none. Its container farebox is of the image mirror.test\/farebox-sidecar:1, not from farebox-sidecar: give it another name; or, .* let the chart name its repository in admissionPolicies.sidecarRepositories, or let pods start/,
    )
  })

  test('the gate reads selectors as Kubernetes and the operator do', async () => {
    const key = 'example.com/lane'
    const expression = (operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist', values: string[] = []): Selector => ({
      matchLabels: {},
      matchExpressions: [{ key, operator, values }],
    })
    const selectors: readonly Selector[] = [
      expression('In', ['a', 'b']),
      expression('NotIn', ['a', 'b']),
      expression('Exists'),
      expression('DoesNotExist'),
      { matchLabels: { app: 'desk', [key]: '' }, matchExpressions: [] },
      {
        matchLabels: { app: 'desk' },
        matchExpressions: [
          { key, operator: 'NotIn', values: ['a'] },
          { key: 'app', operator: 'Exists', values: [] },
        ],
      },
    ]
    const pods: readonly (Labels | undefined)[] = [
      undefined,
      {},
      { app: 'desk' },
      { app: 'desk', [key]: 'a' },
      { app: 'desk', [key]: '' },
      { [key]: 'b' },
      { [key]: 'c' },
      { lane: 'a' },
    ]
    for (const [index, selector] of selectors.entries()) {
      const namespace = `selects-${index}`
      await ask('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
      await waitFor(
        'the service account',
        async () => (await cluster().request({ path: `/api/v1/namespaces/${namespace}/serviceaccounts/default` })).status === 200,
      )
      await applyBudget(selector.matchLabels, { namespace, matchExpressions: selector.matchExpressions })
      // Parameters reach the policy a moment after they are stored.
      const selected = pods.find((labels) => matches(selector, labels ?? {})) ?? {}
      await waitFor('the gate', async () => (await createPod({ namespace, labels: selected })).status === 403)
      for (const labels of pods) {
        const { status } = await createPod({ namespace, labels })
        assert.equal(status, matches(selector, labels ?? {}) ? 403 : 201, `${JSON.stringify(selector)} of ${JSON.stringify(labels)}`)
      }
    }
  })

  test('an edit of a budget acts at once: BestEffort lets pods in, Required keeps them out', async () => {
    await applyBudget({ app: 'desk' }, { mode: 'BestEffort' })
    await waitFor('the gate to open', async () => (await createPod({ labels: { app: 'desk' } })).status === 201)
    await applyBudget({ app: 'desk' })
    await waitFor('the gate to close', async () => (await createPod({ labels: { app: 'desk' } })).status === 403)
  })

  test('T26: pods of the operator start while no webhook answers, even when others may not', async () => {
    const before = await createPod({ namespace: OTHER, labels: {} })
    assert.equal(before.status, 201, 'failurePolicy Ignore')
    await cluster().helm(['upgrade', 'farebox', `${CHARTS}farebox`, '--namespace', NAMESPACE, '--set', 'webhook.failurePolicy=Fail'])
    await waitFor('the webhook to be asked', async () => (await createPod({ namespace: OTHER, labels: {} })).status === 500)
    for (const namespace of [NAMESPACE, 'kube-system']) {
      assert.equal((await createPod({ namespace, labels: {} })).status, 201, namespace)
    }
    await cluster().helm(['rollback', 'farebox', '1', '--namespace', NAMESPACE])
    await waitFor('the rollback', async () => (await createPod({ namespace: OTHER, labels: {} })).status === 201)
  })

  describe('the operator', () => {
    const write = (kind: 'ConfigMap' | 'Secret', name: string, parts: Parts = {}): Promise<Answer> => asOperator(applyOf(kind, name, parts))

    test('may write its config maps, and no other', async () => {
      assert.equal((await write('ConfigMap', `${CONFIG_MAP_PREFIX}desk`, { labels: { [LABELS.managedBy]: MANAGED_BY } })).status, 201)
      for (const [name, labels] of [
        [`${CONFIG_MAP_PREFIX}bare`, {}],
        ['coredns', { [LABELS.managedBy]: MANAGED_BY }],
      ] as const) {
        const { status, body } = await write('ConfigMap', name, { labels })
        assert.equal(status, 403)
        assert.match(body.message, /the farebox operator may write no ConfigMaps but its own/)
      }
      const path = `/api/v1/namespaces/${SHOP}/configmaps/${CONFIG_MAP_PREFIX}desk`
      assert.equal((await asOperator({ method: 'DELETE', path })).status, 403, 'it deletes nothing')
    })

    test('may write the one secret of a namespace, and its own two; it reads no others', async () => {
      assert.equal((await write('Secret', RUNTIME_SECRET)).status, 201)
      assert.equal((await write('Secret', 'stripe')).status, 403)
      const create = (name: string): Promise<Answer> =>
        asOperator({
          method: 'POST',
          path: `/api/v1/namespaces/${NAMESPACE}/secrets`,
          body: objectOf('Secret', name, { namespace: NAMESPACE }),
        })
      assert.equal((await create('farebox-tls')).status, 201)
      assert.equal((await create('farebox-store')).status, 201)
      const other = await create('sh.helm.release.v1.farebox.v9')
      assert.equal(other.status, 403)
      assert.match(other.body.message, /may write no Secrets but farebox-runtime, and farebox-tls and farebox-store of its own namespace/)
      assert.equal((await asOperator({ path: `/api/v1/namespaces/${SHOP}/secrets` })).status, 403)
      assert.equal((await asOperator({ path: `/api/v1/namespaces/${SHOP}/secrets/${RUNTIME_SECRET}` })).status, 200)
    })

    test('may write no secret into which others would write a token', async () => {
      const type = 'kubernetes.io/service-account-token'
      const annotations = { 'kubernetes.io/service-account.name': 'default' }
      const tokenOf = (namespace: string, name: string): object => ({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name, namespace, annotations },
        type,
      })
      const answers = [
        ...[OTHER, 'kube-system'].map((namespace) =>
          asOperator({ ...applyOf('Secret', RUNTIME_SECRET, { namespace }), body: tokenOf(namespace, RUNTIME_SECRET) }),
        ),
        ...['farebox-tls', 'farebox-store'].map((name) =>
          asOperator({
            method: 'POST',
            path: `/api/v1/namespaces/${NAMESPACE}/secrets?dryRun=All`,
            body: tokenOf(NAMESPACE, name),
          }),
        ),
      ]
      for (const { status, body } of await Promise.all(answers)) {
        assert.equal(status, 403)
        assert.match(body.message, /of type Opaque or kubernetes.io\/tls/)
      }
      const tls = { ...tokenOf(NAMESPACE, 'farebox-tls'), type: 'kubernetes.io/tls', data: { 'tls.crt': '', 'tls.key': '' } }
      const written = await asOperator({ method: 'POST', path: `/api/v1/namespaces/${NAMESPACE}/secrets?dryRun=All`, body: tls })
      assert.notEqual(written.status, 403, written.body.message)
    })

    test('may create pods in dry runs only', async () => {
      const body = podOf({ namespace: OTHER, labels: {} })
      const path = `/api/v1/namespaces/${OTHER}/pods`
      assert.equal((await asOperator({ method: 'POST', path: `${path}?dryRun=All`, body })).status, 201)
      const { status, body: answer } = await asOperator({ method: 'POST', path, body })
      assert.equal(status, 403)
      assert.match(answer.message, /may create pods in dry runs only/)
    })
  })

  test('nobody else may write what the operator writes; whoever may delete still may', async () => {
    for (const [kind, name] of [
      ['ConfigMap', `${CONFIG_MAP_PREFIX}forged`],
      ['ConfigMap', `${CONFIG_MAP_PREFIX}desk`],
      ['Secret', RUNTIME_SECRET],
    ] as const) {
      const { status, body } = await ask(
        'PATCH',
        applyOf(kind, name, { labels: { forged: 'yes' } }).path,
        objectOf(kind, name, { labels: { forged: 'yes' } }),
        APPLY,
      )
      assert.equal(status, 403, `${kind} ${name}`)
      assert.match(body.message, /the farebox operator writes this from the ConversationBudgets of the namespace: change those/)
    }
    assert.equal((await ask('DELETE', `/api/v1/namespaces/${SHOP}/configmaps/${CONFIG_MAP_PREFIX}desk`)).status, 200)
    const own = await ask('POST', `/api/v1/namespaces/${SHOP}/configmaps`, objectOf('ConfigMap', 'mine'))
    assert.equal(own.status, 201, 'what is not ours is none of our business')
  })

  test('who writes back what is there, as it is, passes: so Secrets are encrypted anew', async () => {
    const name = `${CONFIG_MAP_PREFIX}kept`
    const labels = { [LABELS.managedBy]: MANAGED_BY }
    await asOperator({ ...applyOf('ConfigMap', name), body: { ...objectOf('ConfigMap', name, { labels }), data: { config: '{}' } } })
    await asOperator({ ...applyOf('Secret', RUNTIME_SECRET), body: { ...objectOf('Secret', RUNTIME_SECRET), data: { store: 'eA==' } } })
    for (const path of [`/api/v1/namespaces/${SHOP}/configmaps/${name}`, `/api/v1/namespaces/${SHOP}/secrets/${RUNTIME_SECRET}`]) {
      const { body: known } = await cluster().request<Written>({ path })
      const put = async (changed: object): Promise<number> => (await ask('PUT', path, { ...known, ...changed })).status
      const metadata = (changed: object): object => ({ metadata: { ...known.metadata, ...changed } })
      assert.equal(await put({}), 200, path)
      for (const changed of [
        { data: { ...known.data, more: 'eA==' } },
        { data: undefined },
        { immutable: true },
        metadata({ labels: { ...known.metadata.labels, forged: 'yes' } }),
        metadata({ annotations: { forged: 'yes' } }),
        metadata({ finalizers: ['example.com/forged'] }),
      ])
        assert.equal(await put(changed), 403, `${path} ${JSON.stringify(changed)}`)
      assert.equal((await ask('DELETE', path)).status, 200)
      assert.equal(
        (await ask('POST', path.slice(0, path.lastIndexOf('/')), { ...known, ...metadata({ resourceVersion: undefined }) })).status,
        403,
      )
    }
  })

  test('a namespace with what the operator wrote ends by itself', async () => {
    const path = '/api/v1/namespaces/selects-0'
    await asOperator(
      applyOf('ConfigMap', `${CONFIG_MAP_PREFIX}desk`, { namespace: 'selects-0', labels: { [LABELS.managedBy]: MANAGED_BY } }),
    )
    assert.equal((await ask('DELETE', path)).status, 200)
    await waitFor('the end of the namespace', async () => (await ask('GET', path)).status === 404, { withinMs: 60_000 })
  })

  test('T21: without the kind of the budgets pods still start; when it is back, so is the gate', async () => {
    await cluster().kubectl(['delete', 'crd', 'conversationbudgets.farebox.dev', '--wait'])
    await waitFor('pods to pass', async () => (await createPod({ labels: { app: 'desk' } })).status === 201)
    assert.equal((await createPod({ namespace: OTHER, labels: {} })).status, 201)
    await cluster().kubectl(['apply', '--server-side', '-f', `${CHARTS}../crds/generated`])
    await waitFor('the kind', async () => (await ask('GET', BUDGETS(SHOP))).status === 200)
    await applyBudget({ app: 'desk' })
    await waitFor('the gate', async () => (await createPod({ labels: { app: 'desk' } })).status === 403, { withinMs: 30_000 })
  })
})

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
const APPLY = 'application/apply-patch+yaml'
const BUDGETS = (namespace: string): string => `/apis/farebox.dev/v1alpha1/namespaces/${namespace}/conversationbudgets`

interface Answer {
  readonly status: number
  readonly body: { readonly message: string }
}
interface Parts {
  readonly namespace?: string
  readonly labels?: Labels
}
interface PodParts {
  readonly namespace?: string
  readonly labels?: Labels | undefined
  readonly spec?: object
}
interface Written {
  readonly metadata: { readonly labels?: Labels }
  readonly data: Readonly<Record<string, string>>
}
interface Asked {
  readonly method?: Method
  readonly path: string
  readonly body?: object
  readonly contentType?: string
}

async function ask(method: Method, path: string, body?: object, contentType?: string): Promise<Answer> {
  return cluster().request<Answer['body']>({ method, path, ...(body && { body }), ...(contentType !== undefined && { contentType }) })
}

let operatorToken: Promise<string> | undefined
async function asOperator(asked: Asked): Promise<Answer> {
  operatorToken ??= cluster().tokenOf(NAMESPACE, 'farebox-operator')
  return cluster().request<Answer['body']>({ ...asked, token: await operatorToken })
}

function objectOf(kind: 'ConfigMap' | 'Secret', name: string, { namespace = SHOP, labels = {} }: Parts = {}): object {
  return { apiVersion: 'v1', kind, metadata: { name, namespace, labels } }
}

function applyOf(kind: 'ConfigMap' | 'Secret', name: string, parts: Parts = {}): Asked & { readonly path: string } {
  const path = `/api/v1/namespaces/${parts.namespace ?? SHOP}/${kind.toLowerCase()}s/${name}?fieldManager=farebox-config&force=true`
  return { method: 'PATCH', path, body: objectOf(kind, name, parts), contentType: APPLY }
}

function podOf({ namespace = SHOP, labels, spec = {} }: PodParts): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { generateName: 'app-', namespace, ...(labels && { labels }) },
    spec: { containers: [{ name: 'app', image: 'app' }], ...spec },
  }
}

/** As a dry run: admission does all that it does. */
function createPod(parts: PodParts): Promise<Answer> {
  return ask('POST', `/api/v1/namespaces/${parts.namespace ?? SHOP}/pods?dryRun=All`, podOf(parts))
}

async function applyBudget(
  matchLabels: Labels,
  {
    namespace = SHOP,
    mode = 'Required',
    matchExpressions = [],
  }: { readonly namespace?: string; readonly mode?: string; readonly matchExpressions?: readonly object[] } = {},
): Promise<void> {
  const { status, body } = await ask(
    'PATCH',
    `${BUDGETS(namespace)}/desk?fieldManager=test&force=true`,
    {
      apiVersion: 'farebox.dev/v1alpha1',
      kind: 'ConversationBudget',
      metadata: { name: 'desk', namespace },
      spec: { selector: { matchLabels, matchExpressions }, tier: { default: 'pro' }, injection: { mode } },
    },
    APPLY,
  )
  assert.ok(status === 200 || status === 201, JSON.stringify(body))
}
