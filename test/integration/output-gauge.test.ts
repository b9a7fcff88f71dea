/** The estimate of streamed output against an independent tokenizer, at whatever pace a provider sends. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { OutputGauge } from '@farebox/sidecar/wire/output-gauge.ts'
import { tokenTexts } from '../provider/tokens.ts'

const TEXTS: Record<string, string> = {
  English:
    'Your order 1734 left our warehouse in Rotterdam on Tuesday morning, so it should reach you by Thursday at the latest. If it has not arrived by then, please reply to this message and we will send you a replacement free of charge.',
  Markdown:
    '1. Open **Settings** and choose *Billing*.\n2. Click "Change plan".\n3. Pick one:\n   - Plus ($12.00/month)\n   - Business ($49.00/month)\n\nDone! The new price applies from 2026-12-01.',
  code: 'export function total(items: readonly Item[]): number {\n  let sum = 0\n  for (const item of items) {\n    if (item.price === null) continue // free\n    sum += item.price * item.quantity\n  }\n  return sum\n}\n',
  JSON: '{"order_id":"A-1734-99","items":[{"sku":"TX-100","count":2,"price":"12.50"},{"sku":"TX-200","count":1,"price":"99.00"}],"express":true}',
  German:
    'Ihre Bestellung hat unser Lager am Dienstagmorgen verlassen und sollte spätestens am Donnerstag bei Ihnen eintreffen. Falls sie bis dahin nicht angekommen ist, antworten Sie bitte auf diese Nachricht.',
  French:
    "Votre commande a quitté notre entrepôt mardi matin et devrait vous parvenir jeudi au plus tard. Si elle n'est pas arrivée d'ici là, répondez simplement à ce message.",
  Russian:
    'Ваш заказ покинул наш склад во вторник утром и должен прибыть к вам не позднее четверга. Если он не придёт, ответьте, пожалуйста, на это сообщение.',
  Japanese:
    'ご注文の商品は火曜日の朝に倉庫から発送されました。遅くとも木曜日までにはお届けできる見込みです。届かない場合は、このメッセージにご返信ください。',
  'a hash': '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
  emoji: 'Great news! 🎉🎉 Your parcel 📦 is on its way 🚚💨 and should be there soon 😀👍',
}

/** The estimate over the truth, at `perEvent` tokens an event. */
function ratio(text: string, perEvent: number): number {
  const pieces = tokenTexts(text)
  const gauge = new OutputGauge()
  for (let start = 0; start < pieces.length; start += perEvent) {
    const bytes = Buffer.from(JSON.stringify(pieces.slice(start, start + perEvent).join('')))
    gauge.addJsonString(bytes, 1, bytes.length - 1)
  }
  return gauge.tokens / pieces.length
}

describe('estimated output is 0.95 to 1.3 times the tokens of o200k', () => {
  for (const [name, text] of Object.entries(TEXTS)) {
    for (const perEvent of [1, 2, 3, 10, Infinity]) {
      test(`${name}, ${perEvent === Infinity ? 'all at once' : `${perEvent} an event`}`, () => {
        const estimated = ratio(text, perEvent)
        assert.ok(estimated >= 0.95 && estimated <= 1.3, estimated.toFixed(2))
      })
    }
  }
})
