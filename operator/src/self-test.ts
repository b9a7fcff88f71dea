/**
 * What `helm test` runs in a pod: asks the webhook in the way of the API server, by its Service and with the certificates that the
 * API server was told to trust; then asks the API server to make a pod, as a dry run. Says what is wrong, and what to look at.
 */
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { ANNOTATIONS, LABELS } from '@farebox/crds/cluster.ts'
import * as z from 'zod'
import { messageOf } from './core/error-text.ts'

const ANSWER_MS_MAX = 5_000
const RETRY_MS = 2_000

const Configuration = z.object({ webhooks: z.array(z.object({ clientConfig: z.object({ caBundle: z.string().optional() }) })).min(1) })
const Review = z.object({ response: z.object({ uid: z.string(), allowed: z.boolean() }) })

const Settings = z.object({
  KUBERNETES_SERVICE_HOST: z.string().min(1),
  KUBERNETES_SERVICE_PORT: z.string().min(1),
  /** Folder of the pod's service account. */
  FAREBOX_ACCOUNT: z.string().min(1).default('/var/run/secrets/kubernetes.io/serviceaccount'),
  FAREBOX_WEBHOOK_NAME: z.string().min(1),
  FAREBOX_WEBHOOK_URL: z.url(),
  FAREBOX_TEST_NAMESPACE: z.string().min(1),
  /** An installation that is a moment old may need some. */
  FAREBOX_TEST_ATTEMPTS: z.coerce.number().int().min(1).max(100).default(10),
})

interface SelfTest {
  /** Of the API server, such as `https://10.0.0.1:443`. */
  readonly server: string
  /** PEM. */
  readonly serverTrust: string
  readonly token: string
  readonly webhookName: string
  readonly webhookUrl: string
  /** Where the dry run is. */
  readonly namespace: string
}

main().catch((error: unknown) => {
  console.error(messageOf(error))
  process.exitCode = 1
})

async function main(): Promise<void> {
  const read = Settings.parse(process.env)
  const test = {
    server: `https://${read.KUBERNETES_SERVICE_HOST.replace(/^.*:.*$/, '[$&]')}:${read.KUBERNETES_SERVICE_PORT}`,
    serverTrust: readFileSync(join(read.FAREBOX_ACCOUNT, 'ca.crt'), 'utf8'),
    token: readFileSync(join(read.FAREBOX_ACCOUNT, 'token'), 'utf8').trim(),
    webhookName: read.FAREBOX_WEBHOOK_NAME,
    webhookUrl: read.FAREBOX_WEBHOOK_URL,
    namespace: read.FAREBOX_TEST_NAMESPACE,
  }
  for (let attempt = 1; ; attempt += 1) {
    try {
      await selfTest(test)
      return
    } catch (error) {
      if (attempt === read.FAREBOX_TEST_ATTEMPTS) throw error
      console.log(`${messageOf(error)}; trying again`)
      await sleep(RETRY_MS)
    }
  }
}

/** Tells each step that went well. Rejects with what is wrong. */
async function selfTest(test: SelfTest): Promise<void> {
  const trust = await trustOf(test)
  console.log(`ok: the webhook configuration ${test.webhookName} says which certificates to trust`)
  await askWebhook(test, trust)
  console.log(`ok: ${test.webhookUrl} has such a certificate, and answers`)
  await dryRun(test)
  console.log(`ok: the API server asks it about a pod in the namespace ${test.namespace}`)
}

async function trustOf({ server, serverTrust, token, webhookName }: SelfTest): Promise<string> {
  const url = `${server}/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/${webhookName}`
  const { status, body } = await ask({ url, trust: serverTrust, token })
  if (status !== 200) throw new Error(`the webhook configuration ${webhookName} cannot be read: ${status} ${body}`)
  const bundle = Configuration.parse(JSON.parse(body)).webhooks[0]?.clientConfig.caBundle ?? ''
  if (bundle === '')
    throw new Error(
      `the webhook configuration ${webhookName} has no caBundle yet: does a replica of the operator lead, or, with cert-manager, does its cainjector run?`,
    )
  return Buffer.from(bundle, 'base64').toString()
}

async function askWebhook({ webhookUrl, namespace }: SelfTest, trust: string): Promise<void> {
  const uid = 'farebox-self-test'
  const pods = { group: '', version: 'v1', resource: 'pods' }
  const review = {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid,
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: pods,
      requestKind: { group: '', version: 'v1', kind: 'Pod' },
      requestResource: pods,
      namespace,
      operation: 'CREATE',
      userInfo: {},
      object: pod(namespace, LITTLE),
      oldObject: null,
      dryRun: true,
    },
  }
  const { status, body } = await ask({ url: webhookUrl, trust, sent: review })
  if (status !== 200) throw new Error(`${webhookUrl} answers ${status}: ${body}`)
  const { response } = Review.parse(JSON.parse(body))
  if (response.uid !== uid || !response.allowed) throw new Error(`${webhookUrl} answers what it was not asked: ${body}`)
}

async function dryRun({ server, serverTrust, token, namespace }: SelfTest): Promise<void> {
  const url = `${server}/api/v1/namespaces/${namespace}/pods?dryRun=All&fieldManager=farebox-test`
  const create = (resources: Resources): Promise<Answer> => ask({ url, trust: serverTrust, token, sent: pod(namespace, resources) })
  const first = await create(LITTLE)
  // A LimitRange may demand more, and gives a pod that does not say its defaults.
  const { status, body, warnings } = first.status === 403 ? await create({}) : first
  if (status !== 201) throw new Error(`the API server refuses a pod in ${namespace} (a dry run): ${status} ${body}`)
  const wasAsked = warnings.includes('farebox: ') || [ANNOTATIONS.injectionHash, ANNOTATIONS.skipped].some((name) => body.includes(name))
  if (!wasAsked) {
    throw new Error(
      `the API server does not ask the webhook about pods in ${namespace}: does a firewall keep it from the webhook's port of the operator's pods?`,
    )
  }
}

type Resources = Readonly<Record<string, Readonly<Record<string, string>>>>

const LITTLE: Resources = { requests: { cpu: '1m', memory: '1Mi' }, limits: { cpu: '1m', memory: '1Mi' } }

/**
 * It asks for a sidecar, so that the webhook has something to say about it even where no budget selects it. Under the strictest of the
 * pod security standards, and without a user, which some clusters choose.
 */
function pod(namespace: string, resources: Resources): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'farebox-self-test', namespace, labels: { [LABELS.inject]: 'enabled' } },
    spec: {
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'app',
          image: 'farebox-self-test',
          resources,
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  }
}

interface Question {
  readonly url: string
  /** PEM. */
  readonly trust: string
  readonly token?: string
  /** Absent: a GET. */
  readonly sent?: object
}

interface Answer {
  readonly status: number
  readonly body: string
  readonly warnings: string
}

async function ask({ url, trust, token, sent }: Question): Promise<Answer> {
  try {
    return await new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) }
      const signal = AbortSignal.timeout(ANSWER_MS_MAX)
      const asked = request(
        url,
        { method: sent === undefined ? 'GET' : 'POST', ca: trust, allowPartialTrustChain: true, headers, signal, agent: false },
        (answer) => {
          text(answer).then((body) => resolve({ status: answer.statusCode ?? 0, body, warnings: answer.headers.warning ?? '' }), reject)
        },
      )
      asked.on('error', reject)
      asked.end(sent === undefined ? undefined : JSON.stringify(sent))
    })
  } catch (error) {
    throw new Error(`${new URL(url).host} cannot be asked: ${messageOf(error)}`, { cause: error })
  }
}
