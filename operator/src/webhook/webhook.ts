/**
 * The mutating webhook: express over https. Every answer is made from memory, in milliseconds; nothing is awaited but the body, and,
 * in the first moments of a process, the caches.
 */
import { createServer } from 'node:https'
import type { Server } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import type { Express, NextFunction, Request, Response } from 'express'
import type { SkipReason } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import type { InjectionSettings } from '../core/injection.ts'
import type { Cache } from '../kube/kube.ts'
import { review } from './review.ts'
import type { Outcome } from './review.ts'

/** Where the webhook configuration points to. */
export const INJECT_PATH = '/v1/pods'

/** A review holds the object up to twice, and etcd takes 1.5 MB. */
const BODY_BYTES_MAX = 8 * 1024 * 1024
/** The API server keeps connections longer than Node's 5 s, and would write into one that is being closed. */
const KEEP_ALIVE_MS = 120_000
const HEADERS_MS = KEEP_ALIVE_MS + 5_000
const REQUEST_MS = 30_000
/** How long a request may wait for the caches: within the 3 s that the API server waits for us. */
const SYNC_WAIT_MS = 1_500
const SYNC_LOOK_MS = 20

export interface WebhookParts {
  /** Those that could be parsed, accepted or not. */
  readonly budgets: Pick<Cache<ConversationBudget>, 'hasSynced' | 'values'>
  /** Of the cluster's nodes; null: not known. */
  readonly oldestKubelet?: () => string | null
  /** For events. Not called for dry runs. */
  readonly onOutcome?: (outcome: Outcome) => void
  /** For metrics. */
  readonly onAnswer?: (answer: AnswerFacts) => void
  /** For the log: what should not have happened. */
  readonly onError?: (error: unknown) => void
}

export interface AnswerFacts {
  readonly result: 'injected' | 'skipped' | 'none' | 'failed' | 'malformed' | 'tooLarge' | 'notReady'
  readonly reason: SkipReason | null
  readonly dryRun: boolean
  /** From the body's arrival to the answer. */
  readonly ms: number
}

export interface WebhookSettings {
  readonly injection: InjectionSettings
}

export interface Webhook {
  readonly app: Express
  /** Not listening yet. Without `tls` it can shake no hand until a certificate is set: `setSecureContext`. */
  createServer(tls?: { readonly cert: string; readonly key: string }): Server
  /** The caches have synced, and it is not going away. */
  isReady(): boolean
  /** From now on every answer closes its connection, so that the API server finds another replica. To be followed, some 15 s later, by `server.close()`. */
  drain(): void
}

export function createWebhook(parts: WebhookParts, settings: WebhookSettings): Webhook {
  const state = { isDraining: false }
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.use((_request, response, next) => {
    if (state.isDraining) response.set('connection', 'close')
    next()
  })
  app.post(INJECT_PATH, express.json({ limit: BODY_BYTES_MAX, type: () => true }), (request, response) => {
    answerReview(request, response, parts, settings).catch((error: unknown) => {
      if (!response.headersSent) refuse(error, response, parts)
    })
  })
  app.all(INJECT_PATH, (_request, response) => {
    response.set('allow', 'POST').status(405).json({ error: 'must be a POST of an AdmissionReview' })
  })
  app.use((request, response) => {
    response.status(404).json({ error: `there is nothing at ${request.path}; pods are reviewed at ${INJECT_PATH}` })
  })
  app.use((error: unknown, _request: Request, response: Response, next: NextFunction) => {
    if (response.headersSent) next(error)
    else refuse(error, response, parts)
  })
  return {
    app,
    createServer(tls) {
      const server = createServer({ ...tls, minVersion: 'TLSv1.2' }, app)
      server.keepAliveTimeout = KEEP_ALIVE_MS
      server.headersTimeout = HEADERS_MS
      server.requestTimeout = REQUEST_MS
      return server
    },
    isReady: () => parts.budgets.hasSynced && !state.isDraining,
    drain() {
      state.isDraining = true
    },
  }
}

async function answerReview(request: Request, response: Response, parts: WebhookParts, settings: WebhookSettings): Promise<void> {
  const startedAtMs = performance.now()
  const told = (facts: Pick<AnswerFacts, 'result' | 'reason' | 'dryRun'>) =>
    attempt(parts, () => parts.onAnswer?.({ ...facts, ms: performance.now() - startedAtMs }))
  // Without the caches each pod would seem to be governed by nothing: then the API server's failure policy is to decide.
  if (!(await hasSynced(parts.budgets))) {
    response.status(503).json({ error: 'budgets are not read yet' })
    told({ result: 'notReady', reason: null, dryRun: false })
    return
  }
  const reviewed = review(request.body, {
    budgets: parts.budgets.values(),
    oldestKubelet: parts.oldestKubelet?.() ?? null,
    settings: settings.injection,
  })
  if (reviewed.status === 'malformed') {
    response.status(400).json({ error: reviewed.message })
    told({ result: 'malformed', reason: null, dryRun: false })
    return
  }
  response.json(reviewed.answer)
  told(reviewed)
  const { outcome, error } = reviewed
  if (outcome !== null) attempt(parts, () => parts.onOutcome?.(outcome))
  if (error !== null) attempt(parts, () => parts.onError?.(error))
}

async function hasSynced(budgets: WebhookParts['budgets']): Promise<boolean> {
  for (let waitedMs = 0; !budgets.hasSynced; waitedMs += SYNC_LOOK_MS) {
    if (waitedMs >= SYNC_WAIT_MS) return false
    await sleep(SYNC_LOOK_MS)
  }
  return true
}

/** What is wrong with a body, by the error of its parser: https://expressjs.com/en/resources/middleware/body-parser.html#errors */
function refuse(error: unknown, response: Response, parts: WebhookParts): void {
  const type = typeof error === 'object' && error !== null && 'type' in error ? error.type : null
  const told = (result: AnswerFacts['result']) => attempt(parts, () => parts.onAnswer?.({ result, reason: null, dryRun: false, ms: 0 }))
  switch (type) {
    case 'entity.too.large':
      response.status(413).json({ error: `must be at most ${BODY_BYTES_MAX} bytes` })
      return told('tooLarge')
    case 'encoding.unsupported':
    case 'charset.unsupported':
      response.status(415).json({ error: 'must be JSON in UTF-8, not encoded further or by gzip' })
      return told('malformed')
    case 'entity.parse.failed':
    case 'request.aborted':
    case 'request.size.invalid':
      response.status(400).json({ error: 'must be an AdmissionReview as JSON' })
      return told('malformed')
    default:
      response.status(500).json({ error: 'the operator failed; see its log' })
      attempt(parts, () => parts.onError?.(error))
      return told('failed')
  }
}

/** The answer is out already: what listeners make of it must not change it. */
function attempt(parts: WebhookParts, tell: () => void): void {
  try {
    tell()
  } catch (error) {
    parts.onError?.(error)
  }
}
