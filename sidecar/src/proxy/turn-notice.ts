/** What the answer of a turn tells its user beside what the model says. */
import type { NoticeOccasion } from '@farebox/crds/sidecar-config.ts'
import { chooseLocale, deliveredNotices, isTakenApart, noticeText } from '../core/notices.ts'
import { remainingOf } from '../core/terms.ts'
import type { Admitted } from './admit.ts'
import { headerReader, noticesOf } from './exchange.ts'
import type { AnswerNotice } from './forward.ts'

/** Fields by which an app ends answers at words of its own. In these formats such an end looks like any other. */
const STOP_FIELDS = ['stop', 'generationConfig.stopSequences'] as const

/**
 * What this answer should tell the user who reads it: this turn's occasions and those that no prose answer has carried yet, but for `untold`.
 * Nothing where the app may cut it at words of its own: that waits for the next answer.
 */
export function noticeOf(admitted: Admitted, untold: readonly NoticeOccasion[]): AnswerNotice | null {
  const { turn, plan, granted } = admitted
  const { contract } = turn.terms
  if (turn.policy.config.mode === 'Observe' || contract.notices.mode !== 'Inline' || isTakenApart(turn.request)) return null
  if (STOP_FIELDS.some((name) => turn.request.fields.has(name))) return null
  const known = [...turn.conversation.notices, ...noticesOf(turn, plan.occasions)]
  const delivered = deliveredNotices(turn.conversation)
  const pending = known.filter((notice) => !untold.includes(notice.occasion) && !delivered.includes(notice))
  if (pending.length === 0) return null
  const locale = chooseLocale(contract, headerReader(turn.incoming)('accept-language'))
  const remaining = remainingOf(turn.balances, granted)
  const texts: string[] = []
  const ids: string[] = []
  for (const { id, occasion } of pending) {
    const text = noticeText({
      contract,
      tiers: turn.policy.config.contracts,
      occasion,
      locale,
      remaining,
      percent: plan.percent,
      turns: turn.conversation.turns + 1,
    })
    if (text !== null) texts.push(text)
    ids.push(id)
  }
  return texts.length === 0 ? null : { text: [...new Set(texts)].join('\n'), ids }
}
