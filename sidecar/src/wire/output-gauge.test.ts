import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import { OutputGauge } from './output-gauge.ts'

/** A gauge that saw `pieces`, one event each, as they stand inside JSON strings. */
function gauged(pieces: readonly string[], write: (piece: string) => string = JSON.stringify): OutputGauge {
  const gauge = new OutputGauge()
  for (const piece of pieces) {
    const bytes = Buffer.from(`"x${write(piece)}"x"`) // among others, which must not be read
    gauge.addJsonString(bytes, 3, bytes.length - 4)
  }
  return gauge
}
const tokens = (...pieces: readonly string[]): number => gauged(pieces).tokens

/** With every character escaped that may be. */
function escaped(text: string): string {
  const units = Array.from({ length: text.length }, (_, index) => text.charCodeAt(index))
  return `"${units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('')}"`
}

/** o200k counts of whole texts, by `gpt-tokenizer` 4.0.0; at a token per event see test/integration/output-gauge.test.ts. */
const COUNTED: Record<string, [count: number, text: string]> = {
  English: [
    49,
    'Your order 1734 left our warehouse in Rotterdam on Tuesday morning, so it should reach you by Thursday at the latest. If it has not arrived by then, please reply to this message and we will send you a replacement free of charge.',
  ],
  Markdown: [
    57,
    '1. Open **Settings** and choose *Billing*.\n2. Click "Change plan".\n3. Pick one:\n   - Plus ($12.00/month)\n   - Business ($49.00/month)\n\nDone! The new price applies from 2026-12-01.',
  ],
  code: [
    54,
    'export function total(items: readonly Item[]): number {\n  let sum = 0\n  for (const item of items) {\n    if (item.price === null) continue // free\n    sum += item.price * item.quantity\n  }\n  return sum\n}\n',
  ],
  JSON: [
    55,
    '{"order_id":"A-1734-99","items":[{"sku":"TX-100","count":2,"price":"12.50"},{"sku":"TX-200","count":1,"price":"99.00"}],"express":true,"note":null}',
  ],
  German: [
    35,
    'Ihre Bestellung hat unser Lager am Dienstagmorgen verlassen und sollte spätestens am Donnerstag bei Ihnen eintreffen. Falls sie bis dahin nicht angekommen ist, antworten Sie bitte auf diese Nachricht.',
  ],
  Russian: [
    38,
    'Ваш заказ покинул наш склад во вторник утром и должен прибыть к вам не позднее четверга. Если он не придёт, ответьте, пожалуйста, на это сообщение.',
  ],
  Japanese: [
    48,
    'ご注文の商品は火曜日の朝に倉庫から発送されました。遅くとも木曜日までにはお届けできる見込みです。届かない場合は、このメッセージにご返信ください。',
  ],
  base64: [61, 'iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAYAAAA10dzkAAAABHNCSVQICAgIfAhkiAAAAAlwSFlzAAALEgAACxIB0t1+/AAAADh0RVh0U29mdHdhcmUA'],
  'a hash': [43, '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'],
  emoji: [26, 'Great news! 🎉🎉 Your parcel 📦 is on its way 🚚💨 and should be there soon 😀👍'],
}

describe('the estimate of a whole text lies between 0.95 and 1.3 times the truth', () => {
  for (const [name, [count, text]] of Object.entries(COUNTED)) {
    test(name, () => {
      const ratio = tokens(text) / count
      assert.ok(ratio >= 0.95 && ratio <= 1.3, ratio.toFixed(2))
    })
  }
})

test('a word, a space or a sign that comes alone is one token', () => {
  for (const piece of ['a', ' the', ' warehouse', 'warehouses', ' ', '\n\n', '.', '":"', '7', '173', ' Zusammen', 'заказ', ' **', 'é'])
    assert.equal(tokens(piece), 1, piece)
  assert.equal(tokens('Your', ' order', ' ', '173', '4', ' left', '.\n'), 8) // the full stop and the line end are two
})

test('the space after a word is part of the next one, and takes nothing from it', () => {
  assert.equal(tokens('Hello '), 1)
  assert.equal(tokens('The ', 'parcel ', 'left ', 'today. '), 5)
})

test('an event of nothing is nothing, and the empty string is free', () => {
  assert.equal(tokens(''), 0)
  assert.equal(tokens('', '', 'a', ''), 1)
})

test('letters without end are dearer than words, also when each event brings only a few', () => {
  const run = 'qzxjkvbw'.repeat(30)
  const words = 'the cat sat on it '.repeat(13)
  assert.ok(tokens(run) > 2.5 * tokens(words))
  const pieces = run.match(/.{8}/g) ?? []
  assert.ok(tokens(...pieces) > 0.7 * run.length - 30)
})

test('bytes are those of the text in UTF-8, however it is escaped and cut', () => {
  const text = fc.array(fc.string({ unit: 'grapheme', maxLength: 6 }))
  fc.assert(
    fc.property(text, (pieces) => {
      const bytes = Buffer.byteLength(pieces.join(''))
      assert.equal(gauged(pieces).bytes, bytes)
      assert.equal(gauged(pieces, escaped).bytes, bytes)
    }),
  )
})

test('escapes do not change the estimate', () => {
  const plain = fc.string({ unit: fc.constantFrom('a', 'B', ' ', '7', '.', '\n', '\t', '"', '\\', 'é', 'ж', '語', '€'), maxLength: 40 })
  fc.assert(
    fc.property(plain, (text) => {
      assert.equal(gauged([text], escaped).tokens, gauged([text]).tokens)
    }),
  )
})

test('no text is more tokens than bytes, and none but the empty one is free', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }), fc.string()), (text) => {
      const count = tokens(text)
      assert.ok(count <= Buffer.byteLength(text), `${count} tokens`)
      assert.equal(count > 0, text !== '')
    }),
    { numRuns: 1_000 },
  )
})

test('more text is never fewer tokens', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 })), (pieces) => {
      const gauge = new OutputGauge()
      let before = 0
      for (const piece of pieces) {
        const bytes = Buffer.from(JSON.stringify(piece))
        gauge.addJsonString(bytes, 1, bytes.length - 1)
        assert.ok(gauge.tokens > before)
        before = gauge.tokens
      }
      gauge.addTokens(3)
      assert.equal(gauge.tokens, before + 3)
    }),
  )
})
