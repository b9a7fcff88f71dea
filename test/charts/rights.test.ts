/**
 * T76: the operator may do what it does, and nothing more. It is played through all that it does with the rights of the chart, and the
 * audit log of the API server is compared with its roles: nothing was refused, and no right was left unused.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { RUNTIME_SECRET } from '@farebox/crds/cluster.ts'
import * as z from 'zod'
import { waitFor } from '../support/wait-for.ts'
import type { Cluster } from '../cluster/cluster.ts'
import { clusterTest } from '../support/cluster.ts'
import { install, OPERATOR_NAMESPACE, startOperator } from '../support/operator.ts'
import { ROOT } from './helm.ts'

const ACCOUNT = `system:serviceaccount:${OPERATOR_NAMESPACE}:farebox-operator`

const Entry = z.object({
  stage: z.string(),
  verb: z.string(),
  user: z.object({ username: z.string() }),
  requestURI: z.string(),
  objectRef: z
    .object({
      apiGroup: z.string().default(''),
      resource: z.string(),
      subresource: z.string().optional(),
      name: z.string().optional(),
      namespace: z.string().optional(),
    })
    .optional(),
  responseStatus: z.object({ code: z.int(), reason: z.string().optional(), message: z.string().optional() }).optional(),
})
const Rule = z.object({
  apiGroups: z.array(z.string()).default([]),
  resources: z.array(z.string()).default([]),
  resourceNames: z.array(z.string()).default([]),
  nonResourceURLs: z.array(z.string()).default([]),
  verbs: z.array(z.string()),
})
const Role = z.object({ rules: z.array(Rule) })

/** These leave no trace in the audit log: an apply that makes an object needs `create` too, and is logged as a patch. */
const UNSEEN = ['create /configmaps', 'create events.k8s.io/events']

clusterTest(
  'T76: the operator is refused nothing, and has no right that it does not use',
  // As OpenShift has it: who names an owner that must not go first needs a right for that, which the operator has not.
  { own: { apiServerFlags: ['--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement'] } },
  async (cluster) => {
    const installation = await install(cluster)
    const store = { FAREBOX_STORE_ADDRESS: 'redis://127.0.0.1:1' }
    const operator = await startOperator(cluster, installation, { environment: store })
    try {
      await playThrough(cluster)
    } finally {
      await operator.stop()
    }

    const entries = auditOf(cluster)
    const refused = entries.filter(({ responseStatus }) => responseStatus?.code === 403)
    const gate = /farebox-injection-required/
    assert.deepEqual(
      refused.filter(({ responseStatus }) => !gate.test(responseStatus?.message ?? '')).map((entry) => JSON.stringify(entry)),
      [],
    )
    const used = new Set(entries.map(nameOf))
    const granted = await rightsOf(cluster)
    assert.deepEqual(
      [...granted].filter((right) => !used.has(right) && !UNSEEN.includes(right)),
      [],
      'rights that were not used',
    )
    assert.deepEqual(
      [...used].filter((right) => !granted.has(right)),
      [],
      'what was done by rights that everybody has',
    )
  },
)

/** All that an operator does in its life, in a minute. */
async function playThrough(cluster: Cluster): Promise<void> {
  await cluster.kubectl(['apply', '-f', `${ROOT}examples/kubernetes`])
  const budget = '/apis/farebox.dev/v1alpha1/namespaces/assistant/conversationbudgets/assistant'
  await exists(cluster, '/api/v1/namespaces/assistant/configmaps/farebox-config-assistant')
  await exists(cluster, `/api/v1/namespaces/assistant/secrets/${RUNTIME_SECRET}`)
  await cluster.kubectl(['apply', '-f', `${ROOT}examples/support-desk/prices.yaml`])
  // The gate is proved by a pod in a dry run.
  await waitFor('the status of the prices', () => auditOf(cluster).some((entry) => nameOf(entry) === 'patch farebox.dev/pricebooks/status'))
  await cluster.request({ method: 'PATCH', path: budget, body: { spec: { injection: { mode: 'Required' } } } })
  await waitFor('the gate to be tried', () => auditOf(cluster).some((entry) => nameOf(entry) === 'create /pods'), { withinMs: 40_000 })
  // Each pod of the app is told of by an event of its owner; many are one event that is counted.
  await waitFor('the pods of the app', async () => (await podsOf(cluster)) === 3, { withinMs: 30_000 })
  await cluster.kubectl(['-n', 'assistant', 'delete', 'pods', '--all', '--force', '--grace-period=0'])
  // Its certificate is spoilt.
  const tls = `/api/v1/namespaces/${OPERATOR_NAMESPACE}/secrets/farebox-tls`
  await cluster.request({ method: 'PATCH', path: tls, body: { data: { 'tls.crt': Buffer.from('spoilt').toString('base64') } } })
  await waitFor('a new certificate', () => auditOf(cluster).some((entry) => nameOf(entry) === 'update /secrets'), { withinMs: 20_000 })
  // Events are sent together, after a while.
  await waitFor('events', () => auditOf(cluster).some((entry) => nameOf(entry) === 'patch events.k8s.io/events'), { withinMs: 60_000 })
}

async function exists(cluster: Cluster, path: string): Promise<void> {
  await waitFor(path, async () => (await cluster.request({ path })).status === 200, { withinMs: 20_000 })
}

async function podsOf(cluster: Cluster): Promise<number> {
  const { body } = await cluster.request<{ readonly items: readonly unknown[] }>({ path: '/api/v1/namespaces/assistant/pods' })
  return body.items.length
}

function auditOf(cluster: Cluster): readonly z.infer<typeof Entry>[] {
  return readFileSync(cluster.auditLog, 'utf8')
    .split('\n')
    .slice(0, -1) // no line yet
    .filter((line) => line.includes(ACCOUNT))
    .map((line) => Entry.parse(JSON.parse(line)))
    .filter(({ user }) => user.username === ACCOUNT)
}

function nameOf({ verb, objectRef, requestURI }: z.infer<typeof Entry>): string {
  if (objectRef === undefined) return `${verb} ${requestURI}`
  return `${verb} ${objectRef.apiGroup}/${objectRef.resource}${objectRef.subresource === undefined ? '' : `/${objectRef.subresource}`}`
}

/** Of the cluster role and the role, a right a name. */
async function rightsOf(cluster: Cluster): Promise<ReadonlySet<string>> {
  const paths = [
    '/apis/rbac.authorization.k8s.io/v1/clusterroles/farebox-operator',
    `/apis/rbac.authorization.k8s.io/v1/namespaces/${OPERATOR_NAMESPACE}/roles/farebox-operator`,
  ]
  const roles = await Promise.all(paths.map(async (path) => Role.parse((await cluster.request({ path })).body)))
  return new Set(
    roles
      .flatMap(({ rules }) => rules)
      .flatMap(({ apiGroups, resources, nonResourceURLs, verbs }) =>
        verbs.flatMap((verb) => [
          ...apiGroups.flatMap((group) => resources.map((resource) => `${verb} ${group}/${resource}`)),
          ...nonResourceURLs.map((url) => `${verb} ${url}`),
        ]),
      ),
  )
}
