/** The charts in a real API server: taken as they are, upgraded, rolled back and uninstalled; and what people may do then. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { waitFor } from '../support/wait-for.ts'
import { ownCluster } from '../support/cluster.ts'
import { CHARTS, helmOrNull, nameOf, NAMESPACE, objectsOf, podSpecOf, render, ROOT } from './helm.ts'
import type { PodSpec, Rendered } from './helm.ts'

const FOLDER = fileURLToPath(new URL('.', import.meta.url))
const EXAMPLE = `${ROOT}examples/kubernetes`
const found = await ownCluster()
const helm4 = await helmOrNull(4)
const options = found === null || helm4 === null ? { skip: 'there is no control plane, or no helm' } : {}
const cluster = (): NonNullable<typeof found> => {
  assert.ok(found !== null)
  return found
}
const rendered = (name: string): readonly Rendered[] => objectsOf(render(helm4 ?? '', ['--values', `${FOLDER}${name}.in.yaml`]))
const FOREIGN = /^(cert-manager[.]io|monitoring[.]coreos[.]com)\//

describe('the charts in a cluster', options, () => {
  before(async () => {
    // The strictest standard: what the charts run needs none of what it denies.
    await apply([
      {
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name: NAMESPACE, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
      },
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'farebox-test', namespace: NAMESPACE } },
      ...['shop', '2024'].map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })),
    ])
    await cluster().helm(['install', 'farebox-crds', `${CHARTS}farebox-crds`, '--namespace', NAMESPACE])
  })
  after(() => found?.stop())

  test('the chart of the kinds holds the definitions that are generated, to be kept', async () => {
    const chart = objectsOf(render(helm4 ?? '', [], 'farebox-crds'))
    const generated = readdirSync(`${ROOT}crds/generated`).flatMap((file) =>
      objectsOf(readFileSync(`${ROOT}crds/generated/${file}`, 'utf8')),
    )
    const byName = (objects: readonly Rendered[]): readonly Rendered[] =>
      objects.toSorted((one, other) => nameOf(one).localeCompare(nameOf(other)))
    assert.deepEqual(
      byName(chart),
      byName(generated).map((definition) => ({
        ...definition,
        metadata: { ...definition.metadata, annotations: { 'helm.sh/resource-policy': 'keep' } },
      })),
    )
  })

  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith('.in.yaml'))) {
    const name = file.slice(0, -'.in.yaml'.length)
    test(`the API server takes all of ${name}, and knows each field`, async () => {
      const objects = rendered(name).filter(({ apiVersion }) => !FOREIGN.test(apiVersion))
      await apply(
        [...objects.filter(({ metadata }) => metadata.namespace === 'shop'), ...objects],
        ['--dry-run=server', '--validate=strict'],
      )
    })
  }

  test('T8: the pods of the chart are admitted to a namespace of the restricted standard', async () => {
    await apply([{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'farebox-operator', namespace: NAMESPACE } }])
    for (const name of ['defaults', 'openshift', 'store-with-tls']) {
      const pods = rendered(name).flatMap((object) => podSpecOf(object) ?? [])
      assert.equal(pods.length, 3)
      for (const [index, spec] of pods.entries()) {
        const metadata = { name: `admitted-${index}`, namespace: NAMESPACE }
        // A pod of a StatefulSet gets the volume of its claim from the controller.
        const volumes = [...(spec.volumes ?? []), ...(hasVolume(spec, 'data') ? [] : [{ name: 'data', emptyDir: {} }])]
        await apply([{ apiVersion: 'v1', kind: 'Pod', metadata, spec: { ...spec, volumes } }], ['--dry-run=server'])
      }
    }
  })

  test('T75: what Git says stays as it is in the cluster, though the operator writes the certificates to trust', async () => {
    const objects = rendered('defaults').filter(({ metadata }) => metadata.annotations?.['helm.sh/hook'] === undefined)
    const applyAsArgo = ['--field-manager=argocd-controller', '--force-conflicts']
    await apply(objects, applyAsArgo)
    await publishAsOperator(cluster().ca)
    const versions = await versionsOf(objects)
    await apply(objects, applyAsArgo)
    assert.deepEqual(await versionsOf(objects), versions, 'a second sync changes nothing')
    assert.equal(await published(), cluster().ca)
    await cluster().kubectl(['delete', '-f', '-', '--wait'], { input: list(objects) })
    await apply([{ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'farebox-test', namespace: NAMESPACE } }])
  })

  for (const major of [4, 3] as const) {
    test(`T73, T74: Helm ${major} installs, upgrades, rolls back and uninstalls in either order; plans and budgets stay`, async (context) => {
      if ((await helmOrNull(major)) === null) return context.skip(`there is no Helm ${major}`)
      const helm = (...args: readonly string[]) => cluster().helm([...args, '--namespace', NAMESPACE], { major })
      const replicas = async (): Promise<unknown> => {
        const path = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments/farebox-operator`
        const { body } = await cluster().request<{ readonly spec?: { readonly replicas: number } }>({ path })
        return body.spec?.replicas
      }
      await helm('upgrade', '--install', 'farebox-crds', `${CHARTS}farebox-crds`)
      await cluster().kubectl(['apply', '-f', `${EXAMPLE}/1-tier.yaml`, '--validate=strict'])
      await helm('install', 'farebox', `${CHARTS}farebox`)
      assert.equal(await replicas(), 2)
      await helm('upgrade', 'farebox', `${CHARTS}farebox`, '--set', 'operator.replicas=3')
      assert.equal(await replicas(), 3)
      await helm('rollback', 'farebox', '1')
      assert.equal(await replicas(), 2)

      // To a certificate of yours, from the operator's, which Helm 4 must be told to take; and back, when the operator is to publish its own.
      await publishAsOperator('-----BEGIN CERTIFICATE-----\nMIIA\n-----END CERTIFICATE-----\n')
      const forced = major === 4 ? ['--force-conflicts'] : []
      await helm('upgrade', 'farebox', `${CHARTS}farebox`, '--values', `${FOLDER}given-certificate.in.yaml`, ...forced)
      assert.equal(await published(), '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n')
      await helm('upgrade', 'farebox', `${CHARTS}farebox`, '--reset-values')
      assert.equal(await published(), undefined)

      await helm('uninstall', 'farebox-crds')
      await helm('uninstall', 'farebox', '--wait')
      assert.equal(await replicas(), undefined)
      const left = await cluster().kubectl(['get', 'mutatingwebhookconfigurations,validatingadmissionpolicies', '-o', 'name'])
      assert.equal(left.stdout.includes('farebox'), false, left.stdout)
      const { stdout } = await cluster().kubectl(['get', 'ptier', '-o', 'name'])
      assert.equal(stdout.trim(), 'pricingtier.farebox.dev/pro')
      // The definitions that stayed are taken back by a release of the same name.
      await helm('install', 'farebox', `${CHARTS}farebox`)
      await helm('install', 'farebox-crds', `${CHARTS}farebox-crds`)
      await helm('uninstall', 'farebox', '--wait')
    })
  }

  test('the example is taken as it is, its namespace first, and its app gets nothing but a label', async () => {
    const { status } = await cluster().request({ path: '/api/v1/namespaces/assistant' })
    assert.equal(status, 404, 'there is no namespace yet')
    await cluster().kubectl(['apply', '--validate=strict', '-f', EXAMPLE])
    await cluster().kubectl(['apply', '--server-side', '--force-conflicts', '-f', EXAMPLE])
    const warned = await cluster().kubectl(['create', '--dry-run=server', '-f', `${EXAMPLE}/3-app.yaml`, '--save-config=false'], {
      mayFail: true,
    })
    assert.doesNotMatch(warned.stderr, /PodSecurity/)
  })

  test('tenancy: who may view or edit a namespace may view or edit its budgets, and sees no plans and no other namespace', async () => {
    await cluster().helm(['install', 'farebox', `${CHARTS}farebox`, '--namespace', NAMESPACE])
    for (const role of ['view', 'edit']) {
      await cluster().kubectl(['create', 'rolebinding', role, '--namespace=shop', `--clusterrole=${role}`, `--user=${role}er`])
    }
    const can = async (user: string, verb: string, resource: string, namespace: string): Promise<boolean> => {
      const asked = await cluster().kubectl(['auth', 'can-i', verb, ...resource.split(' '), `--namespace=${namespace}`, `--as=${user}`], {
        mayFail: true,
      })
      return asked.stdout.trim() === 'yes'
    }
    // Each out of several, one after the other.
    for (const [user, verb] of [
      ['viewer', 'list'],
      ['editer', 'list'],
      ['editer', 'create'],
    ] as const)
      await waitFor('the roles to be put together', () => can(user, verb, 'conversationbudgets.farebox.dev', 'shop'))
    const answers = Object.fromEntries(
      await Promise.all(
        (
          [
            ['viewer', 'create', 'conversationbudgets.farebox.dev', 'shop'],
            ['viewer', 'list', 'conversationbudgets.farebox.dev', 'default'],
            ['editer', 'list', 'conversationbudgets.farebox.dev', 'shop'],
            ['editer', 'delete', 'conversationbudgets.farebox.dev', 'shop'],
            ['editer', 'update', 'conversationbudgets.farebox.dev --subresource=status', 'shop'],
            ['editer', 'get', 'pricingtiers.farebox.dev', 'shop'],
            ['editer', 'create', 'pricingtiers.farebox.dev', 'shop'],
          ] as const
        ).map(async ([user, verb, resource, namespace]) => [
          [user, verb, resource, namespace].join(' '),
          await can(user, verb, resource, namespace),
        ]),
      ),
    ) as Readonly<Record<string, boolean>>
    assert.deepEqual(answers, {
      'viewer create conversationbudgets.farebox.dev shop': false,
      'viewer list conversationbudgets.farebox.dev default': false,
      'editer list conversationbudgets.farebox.dev shop': true,
      'editer delete conversationbudgets.farebox.dev shop': true,
      'editer update conversationbudgets.farebox.dev --subresource=status shop': false,
      'editer get pricingtiers.farebox.dev shop': false,
      'editer create pricingtiers.farebox.dev shop': false,
    })
  })
})

async function apply(objects: readonly object[], more: readonly string[] = []): Promise<void> {
  await cluster().kubectl(
    ['apply', '--server-side', '--force-conflicts', ...more.filter((flag) => flag !== '--force-conflicts'), '-f', '-'],
    {
      input: list(objects),
    },
  )
}

const WEBHOOK = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/farebox'

/** What the API server is to trust, as the operator says it. */
async function publishAsOperator(pem: string): Promise<void> {
  const { status, body } = await cluster().request({
    method: 'PATCH',
    path: `${WEBHOOK}?fieldManager=farebox-ca&force=true`,
    contentType: 'application/apply-patch+yaml',
    body: {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'MutatingWebhookConfiguration',
      metadata: { name: 'farebox' },
      webhooks: [{ name: 'inject.farebox.dev', clientConfig: { caBundle: Buffer.from(pem).toString('base64') } }],
    },
  })
  assert.equal(status, 200, JSON.stringify(body))
}

async function published(): Promise<string | undefined> {
  const { body } = await cluster().request<{ readonly webhooks: readonly { readonly clientConfig: { readonly caBundle?: string } }[] }>({
    path: WEBHOOK,
  })
  const caBundle = body.webhooks[0]?.clientConfig.caBundle
  return caBundle === undefined ? undefined : Buffer.from(caBundle, 'base64').toString()
}

/** JSON, which is YAML. */
function list(objects: readonly object[]): string {
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })
}

function hasVolume(spec: PodSpec, name: string): boolean {
  return (spec.volumes ?? []).some((volume) => volume.name === name)
}

/** Of the specs: what controllers say of them in their status is no change of Git's. */
async function versionsOf(objects: readonly object[]): Promise<readonly string[]> {
  const { stdout } = await cluster().kubectl(['get', '-f', '-', '-o', 'json'], { input: list(objects) })
  const { items } = JSON.parse(stdout) as {
    readonly items: readonly (Rendered & { readonly metadata: { readonly generation?: number; readonly resourceVersion: string } })[]
  }
  return items.map((object) => `${nameOf(object)} ${object.metadata.generation ?? object.metadata.resourceVersion}`).toSorted()
}
