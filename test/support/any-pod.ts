/** Pods of all sorts, such as somebody might write: for what must hold for any of them. */
import fc from 'fast-check'
import { makePod } from './pods.ts'
import type { TestContainer, TestPod } from './pods.ts'

const names = fc.uniqueArray(fc.stringMatching(/^[a-e]{1,3}$/), { minLength: 1, maxLength: 5 })
const variable = fc.record({
  name: fc.constantFrom('OPENAI_BASE_URL', 'OPENAI_API_KEY', 'HTTP_PROXY', 'A', 'B'),
  value: fc.constantFrom('', 'x', '$(OPENAI_BASE_URL)'),
})
const quantities = fc.record({ cpu: fc.constantFrom('1', '500m'), memory: fc.constantFrom('64Mi', '1Gi') }, { requiredKeys: [] })
const requested = fc.record({ cpu: fc.constantFrom('0.5', '500m', '100m'), memory: fc.constant('64Mi') }, { requiredKeys: [] })
const resources = fc.record({ limits: quantities, requests: requested }, { requiredKeys: [] })
/** Of the pod as a whole: enough for all its containers. */
const whole = fc.record(
  {
    limits: fc.record({ cpu: fc.constant('16'), memory: fc.constant('16Gi') }, { requiredKeys: [] }),
    requests: fc.record({ cpu: fc.constantFrom('16', '8'), memory: fc.constantFrom('16Gi', '8Gi') }, { requiredKeys: [] }),
  },
  { requiredKeys: [] },
)
const fields = fc.record(
  {
    env: fc.uniqueArray(variable, { selector: ({ name }) => name, maxLength: 4 }),
    envFrom: fc.constant([{ secretRef: { name: 'openai' } }]),
    resources,
    volumeMounts: fc.constant([{ name: 'v', mountPath: '/v' }]),
  },
  { requiredKeys: [] },
)

/** As it would come over the wire. Of the annotations, `c~d` is none that an API server takes: it is there for what a path must escape. */
export const anyPod: fc.Arbitrary<TestPod> = fc
  .tuple(names, fc.subarray(['istio-init', 'istio-proxy', 'linkerd-init', 'vault-agent-init', 'init-a', 'init-b']))
  .chain(([apps, inits]) =>
    fc.record({
      containers: containersOf(apps),
      initContainers: fc.option(containersOf(inits), { nil: undefined }),
      resources: fc.option(whole, { nil: undefined }),
      imagePullSecrets: fc.option(fc.constant([{ name: 'regcred' }]), { nil: undefined }),
      annotations: fc.option(fc.dictionary(fc.constantFrom('a/b', 'c~d'), fc.string()), { nil: undefined }),
      runAsUser: fc.constantFrom(undefined, 0, 1000),
    }),
  )
  .map(({ annotations, initContainers, resources, imagePullSecrets, containers, runAsUser }) => {
    const pod = makePod(
      {
        containers,
        volumes: [{ name: 'v', emptyDir: {} }],
        ...(initContainers === undefined ? {} : { initContainers }),
        ...(resources === undefined ? {} : { resources }),
        ...(imagePullSecrets === undefined ? {} : { imagePullSecrets }),
        ...(runAsUser === undefined ? {} : { securityContext: { runAsUser } }),
      },
      annotations === undefined ? {} : { annotations },
    )
    return JSON.parse(JSON.stringify(pod)) as TestPod
  })

function containersOf(list: readonly string[]): fc.Arbitrary<TestContainer[]> {
  return fc.tuple(...list.map((name) => fields.map((more) => ({ name, image: 'example.test/x:1', ...more }))))
}
