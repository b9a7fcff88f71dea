/** A provider call whose answer is read whole: of our own asking, so that no client waits for a piece of it. */
import { Pieces } from '../wire/pieces.ts'
import type { UpstreamCall, UpstreamFailure, UpstreamPool } from './upstream.ts'

export type WholeAnswer =
  /** `body` is null where it was longer than what is kept. */
  | { readonly status: 'answered'; readonly statusCode: number; readonly body: Buffer | null }
  /** `timeout`: also of one that took longer than `withinMs`. */
  | { readonly status: 'failed'; readonly kind: UpstreamFailure['kind'] }

/**
 * Makes the call, of which up to `bytesMax` of the answer are kept. `withinMs`: it is broken off when it takes longer, whole answer and all;
 * without it the deadlines of the pool hold alone. Rejects only for a base URL that is none.
 */
export function callWhole(
  upstreams: Pick<UpstreamPool, 'call'>,
  call: UpstreamCall,
  { bytesMax, withinMs }: { readonly bytesMax: number; readonly withinMs?: number },
): Promise<WholeAnswer> {
  return new Promise((resolve) => {
    const kept = new Pieces()
    let bytes = 0
    let statusCode = 0
    const done = (answer: WholeAnswer): void => {
      clearTimeout(timer)
      resolve(answer)
    }
    const handle = upstreams.call(call, {
      head: (status) => {
        statusCode = status
      },
      data: (chunk) => {
        bytes += chunk.length
        if (bytes <= bytesMax) kept.addCopy(chunk)
      },
      end: () => done({ status: 'answered', statusCode, body: bytes <= bytesMax ? kept.whole() : null }),
      failed: ({ kind }) => done({ status: 'failed', kind }),
    })
    const tooLate = (): void => {
      handle.abort()
      resolve({ status: 'failed', kind: 'timeout' })
    }
    const timer = withinMs === undefined ? undefined : setTimeout(tooLate, withinMs)
  })
}
