/**
 * The mutating webhook: express over https. Every answer is made from memory, in milliseconds; nothing is awaited but the body, and,
 * in the first moments of a process, the caches.
 */
import { createServer } from 'node:https'
import type { Server } from 'node:https'
import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import type { Express, NextFunction, Request, RequestHandler, Response } from 'express'
import type { SkipReason } from '@farebox/crds/cluster.ts'
import type { ConversationBudget } from '@farebox/crds/conversation-budget.ts'
import { boundConnections } from '../bounded-connections.ts'
import type { InjectionSettings } from '../core/injection.ts'
import type { OldNode } from '../core/old-node.ts'
import type { Cache } from '../kube/kube.ts'
import { review } from './review.ts'
import { Turns } from './turns.ts'

/** Where the webhook configuration points to. */
export const INJECT_PATH = '/v1/pods'

/** A review holds the object up to twice, and etcd takes 1.5 MiB of a request. */
const BODY_BYTES_MAX = 4 * 1024 * 1024
/** Nearly every review is this small, and waits for no other: whoever sends large ones slowly holds up large ones alone. */
const SMALL_BYTES_MAX = 64 * 1024
/** So many larger ones are read and parsed at a time: each takes several times its length of memory. */
const LARGE_AT_ONCE = 4
/** Others wait so long: within the 3 s that the API server waits for us. Then its failure policy decides. */
const TURN_WAIT_MS = 1_000
/** Anybody can reach this port. The API server has no more than its requests under way, some hundreds, from one address. */
const CONNECTIONS_MAX = 1_024
const CONNECTIONS_OF_ADDRESS_MAX = 256
const CONNECTIONS_LOOK_MS = 1_000
const HANDSHAKE_MS = 5_000
/** The API server keeps connections longer than Node's 5 s, and would write into one that is being closed. */
const KEEP_ALIVE_MS = 120_000
/** From the first byte of a request. */
const HEADERS_MS = 10_000
const REQUEST_MS = 10_000
/** How long a request may wait for the caches: within the 3 s that the API server waits for us. */
const SYNC_WAIT_MS = 1_500
const SYNC_LOOK_MS = 20

export interface WebhookParts {
  /** Those that could be parsed, be it in part, accepted or not. */
  readonly budgets: Pick<Cache<ConversationBudget>, 'hasSynced' | 'values'>
  /** Of the cluster's, those that cannot run sidecars. */
  readonly oldNodes?: () => readonly OldNode[]
  /** Of a namespace, the names of budgets of which nobody knows which pods they select. */
  readonly unreadableIn?: (namespace: string) => readonly string[]
  /** For metrics. */
  readonly onAnswer?: (answer: AnswerFacts) => void
  /** For the log: what should not have happened. */
  readonly onError?: (error: unknown) => void
}

export interface AnswerFacts {
  /** `busy`: too many large ones at once; `refused`: a connection too many. */
  readonly result: 'injected' | 'skipped' | 'none' | 'failed' | 'malformed' | 'tooLarge' | 'busy' | 'refused' | 'notReady'
  readonly reason: SkipReason | null
  readonly dryRun: boolean
  /** From the body's arrival to the answer. */
  readonly ms: number
}

export interface WebhookSettings {
  readonly injection: InjectionSettings
  /** Open at a time, in all and from one address. */
  readonly connectionsMax?: number
  readonly connectionsOfAddressMax?: number
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
  app.post(INJECT_PATH, inTurn(parts), express.json({ limit: BODY_BYTES_MAX, type: () => true }), (request, response) => {
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
      const server = createServer(
        {
          ...tls,
          minVersion: 'TLSv1.2',
          handshakeTimeout: HANDSHAKE_MS,
          keepAliveTimeout: KEEP_ALIVE_MS,
          headersTimeout: HEADERS_MS,
          requestTimeout: REQUEST_MS,
          connectionsCheckingInterval: CONNECTIONS_LOOK_MS,
        },
        app,
      )
      const { connectionsMax: max = CONNECTIONS_MAX, connectionsOfAddressMax: ofAddressMax = CONNECTIONS_OF_ADDRESS_MAX } = settings
      boundConnections(server, { max, ofAddressMax, onRefused: () => told(parts, 'refused') })
      return server
    },
    isReady: () => parts.budgets.hasSynced && !state.isDraining,
    drain() {
      state.isDraining = true
    },
  }
}

/** Until its turn has come a large body is not read: it stays with its sender. */
function inTurn(parts: WebhookParts): RequestHandler {
  const turns = new Turns(LARGE_AT_ONCE)
  return (request, response, next) => {
    if (isSmall(request)) return next()
    turns.take(TURN_WAIT_MS, (hasTurn) => {
      if (!hasTurn) {
        request.resume()
        response.status(503).json({ error: 'too many large reviews come at once' })
        return told(parts, 'busy')
      }
      if (response.closed) return turns.give() // its sender has left
      response.once('close', () => turns.give())
      next()
    })
  }
}

function isSmall({ headers }: Request): boolean {
  return headers['content-encoding'] === undefined && Number(headers['content-length'] ?? Number.NaN) <= SMALL_BYTES_MAX
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
    oldNodes: parts.oldNodes?.() ?? [],
    unreadableIn: (namespace) => parts.unreadableIn?.(namespace) ?? [],
    settings: settings.injection,
  })
  if (reviewed.status === 'malformed') {
    response.status(400).json({ error: reviewed.message })
    told({ result: 'malformed', reason: null, dryRun: false })
    return
  }
  response.json(reviewed.answer)
  told(reviewed)
  const { error } = reviewed
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
  switch (type) {
    case 'entity.too.large':
      response.status(413).json({ error: `must be at most ${BODY_BYTES_MAX} bytes` })
      return told(parts, 'tooLarge')
    case 'encoding.unsupported':
    case 'charset.unsupported':
      response.status(415).json({ error: 'must be JSON in UTF-8, not encoded further or by gzip' })
      return told(parts, 'malformed')
    case 'entity.parse.failed':
    case 'request.aborted':
    case 'request.size.invalid':
      response.status(400).json({ error: 'must be an AdmissionReview as JSON' })
      return told(parts, 'malformed')
    default:
      response.status(500).json({ error: 'the operator failed; see its log' })
      attempt(parts, () => parts.onError?.(error))
      return told(parts, 'failed')
  }
}

/** Of what was not even looked at. */
function told(parts: WebhookParts, result: AnswerFacts['result']): void {
  attempt(parts, () => parts.onAnswer?.({ result, reason: null, dryRun: false, ms: 0 }))
}

/** The answer is out already: what listeners make of it must not change it. */
function attempt(parts: WebhookParts, tell: () => void): void {
  try {
    tell()
  } catch (error) {
    parts.onError?.(error)
  }
}
