import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { clusterTest, freshNamespace, sharedCluster } from '../support/cluster.ts'
import type { Cluster } from './cluster.ts'
import { imageOfNode, importImage } from './images.ts'
import { KUBERNETES_VERSION } from './programs.ts'
import { established } from './established.ts'
import { waitFor } from '../support/wait-for.ts'

clusterTest('is Kubernetes of the pinned version', async (cluster) => {
  const { body } = await cluster.request<{ readonly gitVersion: string }>({ path: '/version' })
  assert.equal(body.gitVersion, KUBERNETES_VERSION)
})

clusterTest('publishes the keys of the tokens that it gives out', async (cluster, context) => {
  const namespace = await freshNamespace(cluster, context, 'tokens')
  const { body } = await cluster.request<{ readonly keys: readonly { readonly kid: string }[] }>({ path: '/openid/v1/jwks' })
  const [header = '', claims = ''] = (await cluster.tokenOf(namespace, 'default', ['someone'])).split('.')
  assert.deepEqual(
    body.keys.map(({ kid }) => kid),
    [decode(header)['kid']],
  )
  assert.deepEqual(decode(claims)['aud'], ['someone'])
})

clusterTest('serves a definition with rules, and refuses an object with the message of the rule', async (cluster, context) => {
  const namespace = await freshNamespace(cluster, context, 'rules')
  await cluster.kubectl(['apply', '-f', '-'], { input: JSON.stringify(DEFINITION) })
  await established(cluster, `crd/${DEFINITION.metadata.name}`)
  const apply = (spec: object): ReturnType<Cluster['kubectl']> => {
    const object = { apiVersion: 'test.farebox.dev/v1', kind: 'Span', metadata: { name: 'span', namespace }, spec }
    return cluster.kubectl(['apply', '--validate=strict', '-f', '-'], { input: JSON.stringify(object), mayFail: true })
  }
  assert.equal((await apply({ from: 1, to: 2 })).code, 0)
  assert.match((await apply({ from: 3, to: 2 })).stderr, /spec.to: Invalid value: .*to must not be less than from/)
  assert.match((await apply({ from: 1, to: 2, until: 3 })).stderr, /unknown field "spec.until"/)
})

clusterTest('logs who asked for what, and grants a user no more than is bound', async (cluster, context) => {
  const namespace = await freshNamespace(cluster, context, 'audit')
  const kubeconfig = await cluster.kubeconfigOf('someone-else')
  const refused = await cluster.kubectl(['get', 'secrets', '-n', namespace], { kubeconfig, mayFail: true })
  assert.match(refused.stderr, /User "someone-else" cannot list resource "secrets"/)
  const entry = await waitFor('the entry', () =>
    entriesOf(cluster.auditLog).find(({ user, objectRef }) => user.username === 'someone-else' && objectRef?.namespace === namespace),
  )
  assert.deepEqual([entry.verb, entry.objectRef?.resource, entry.responseStatus.code], ['list', 'secrets', 403])
})

clusterTest(
  'two stand side by side; one restarts and knows what it knew; stopped, it leaves nothing',
  { own: {} },
  async (cluster, context) => {
    const other = await sharedCluster()
    assert.ok(other)
    const namespace = await freshNamespace(cluster, context, 'kept')
    const path = `/api/v1/namespaces/${namespace}`
    assert.equal((await other.request({ path })).status, 404)
    await cluster.kill('kube-apiserver')
    await assert.rejects(cluster.request({ path }), /ECONNREFUSED|ECONNRESET|EPIPE|socket hang up/)
    assert.equal((await other.request({ path: '/readyz' })).status, 200)
    await cluster.startApiServer()
    assert.equal((await cluster.request({ path })).status, 200)
    assert.ok(processesOf(cluster.folder).length >= PROCESSES_MIN)
    await cluster.stop()
    assert.deepEqual(processesOf(cluster.folder), [])
    assert.equal(existsSync(cluster.folder), false)
  },
)

clusterTest('ends with the process that started it, even when that is killed', async () => {
  const control = new URL('control-plane.ts', import.meta.url).href
  const script = `const { startCluster } = await import('${control}'); console.log((await startCluster()).folder); setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [folder] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  assert.ok(processesOf(folder).length >= PROCESSES_MIN)
  child.kill('SIGKILL')
  await waitFor('the end of the cluster', () => processesOf(folder).length === 0 && !existsSync(folder))
})

clusterTest('a node runs a pod with a native sidecar, which finds a service by name', { own: { node: true } }, async (cluster, context) => {
  const namespace = await freshNamespace(cluster, context, 'node', { 'pod-security.kubernetes.io/enforce': 'restricted' })
  assert.ok(cluster.state.node)
  importImage(cluster.state.node, imageOfNode(`${cluster.folder}/node.tar`, { tag: 'docker.io/farebox-test/node:1' }))
  for (const object of workload()) await cluster.kubectl(['apply', '-n', namespace, '-f', '-'], { input: JSON.stringify(object) })
  await cluster.kubectl(['wait', '-n', namespace, '--for=condition=Ready', 'pod/app', '--timeout=60s'])
  const { stdout } = await cluster.kubectl(['get', '-n', namespace, 'pod', 'app', '--no-headers'])
  assert.match(stdout, /2\/2\s+Running/)
  const ask = `fetch('http://greeter.${namespace}.svc:81').then((answer) => answer.text()).then(console.log)`
  const asked = await waitFor('an answer by name', () =>
    cluster.kubectl(['exec', '-n', namespace, 'app', '-c', 'app', '--', 'node', '-e', ask]),
  )
  assert.equal(asked.stdout.trim(), 'hello')
  const { body } = await cluster.request<{ readonly spec: { readonly clusterIP: string } }>({
    path: `/api/v1/namespaces/${namespace}/services/greeter`,
  })
  assert.equal(await (await fetch(`http://${body.spec.clusterIP}:81`)).text(), 'hello')
})

/** Keeper, etcd and API server; controllers and scheduler where they can be had. */
const PROCESSES_MIN = 3

const DEFINITION = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'spans.test.farebox.dev' },
  spec: {
    group: 'test.farebox.dev',
    scope: 'Namespaced',
    names: { kind: 'Span', plural: 'spans', singular: 'span' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                required: ['from', 'to'],
                properties: { from: { type: 'integer' }, to: { type: 'integer' } },
                'x-kubernetes-validations': [{ rule: 'self.from <= self.to', message: 'to must not be less than from', fieldPath: '.to' }],
              },
            },
          },
        },
      },
    ],
  },
}

function workload(): readonly object[] {
  const container = (name: string, script: string): object => ({
    name,
    image: 'docker.io/farebox-test/node:1',
    imagePullPolicy: 'Never',
    args: ['-e', script],
    securityContext: {
      runAsNonRoot: true,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
  })
  const listen = (port: number): string =>
    `process.on('SIGTERM', () => process.exit(0)); require('node:http').createServer((request, response) => response.end('hello')).listen(${port})`
  const probe = { periodSeconds: 1, httpGet: { path: '/', port: 8081 } }
  return [
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'app', labels: { app: 'app' } },
      spec: {
        initContainers: [{ ...container('side', listen(8_081)), restartPolicy: 'Always', startupProbe: probe }],
        containers: [container('app', listen(8_080))],
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'greeter' },
      spec: { selector: { app: 'app' }, ports: [{ port: 81, targetPort: 8_080 }] },
    },
  ]
}

/** Of those whose command line names the folder. */
function processesOf(folder: string): readonly string[] {
  return globSync('/proc/[0-9]*/cmdline').flatMap((path) => {
    try {
      const command = readFileSync(path, 'utf8').replaceAll('\0', ' ')
      return command.includes(folder) ? [command] : []
    } catch {
      return [] // it ended meanwhile
    }
  })
}

interface AuditEntry {
  readonly verb: string
  readonly user: { readonly username: string }
  readonly objectRef?: { readonly resource: string; readonly namespace?: string }
  readonly responseStatus: { readonly code: number }
}

function entriesOf(auditLog: string): readonly AuditEntry[] {
  return readFileSync(auditLog, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as AuditEntry)
}

function decode(part: string): Readonly<Record<string, unknown>> {
  return JSON.parse(Buffer.from(part, 'base64url').toString())
}
