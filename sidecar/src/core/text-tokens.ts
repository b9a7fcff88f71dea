/** How many tokens a text is, estimated in one pass and without a tokenizer: those take seconds on hostile text. */

// Fortieths of a token per UTF-16 unit, by class of character and by what stands before it: a word, a number and a mark each
// begin a token. Measured against o200k over recorded conversations, code, tables and sixty languages: see the test.
const FORTIETHS = 40
const WHOLE = FORTIETHS
const SPACE = 10
const LETTER = 12
const CAPITAL = 16
/** On top of a word's first letter. */
const WORD_START = 6
/** A letter in a run that no word is as long as: base64, hashes, one key held down. */
const RUN_LETTER = 30
const WORD_LETTERS_MAX = 24
const DIGIT = 20
const MARK = 24

/** Classes of ASCII characters. */
const AS_SPACE = 0
const AS_NEWLINE = 1
const AS_LETTER = 2
const AS_CAPITAL = 3
const AS_DIGIT = 4
const AS_MARK = 5
const AS_CONTROL = 6
/** What is not ASCII. */
const AS_WIDE = 7
const CLASSES = Uint8Array.from({ length: 128 }, (_, code) => {
  const character = String.fromCharCode(code)
  if (/[\r\n]/.test(character)) return AS_NEWLINE
  if (/\s/.test(character)) return AS_SPACE
  if (/[a-z]/.test(character)) return AS_LETTER
  if (/[A-Z]/.test(character)) return AS_CAPITAL
  if (/[0-9]/.test(character)) return AS_DIGIT
  return code < 32 || code === 127 ? AS_CONTROL : AS_MARK
})

/**
 * Fortieths for each character of a script, from its first code on. What o200k has words of costs less than a token a
 * letter; of the rest it reads single bytes: two below U+0800, three from there.
 */
const SCRIPTS: readonly (readonly [from: number, weight: number])[] = [
  [0x80, 40], // Latin with accents
  [0x180, 80],
  [0x380, 26], // Greek, Cyrillic, Armenian
  [0x580, 30], // Hebrew, Arabic
  [0x700, 80],
  [0x800, 120],
  [0x900, 26], // Devanagari to Malayalam
  [0xd80, 34], // Sinhala, Thai
  [0xe80, 84], // Lao, Tibetan
  [0x1000, 30], // Burmese, Georgian
  [0x1100, 120],
  [0x1200, 88], // Ethiopic
  [0x1380, 120],
  [0x1780, 34], // Khmer
  [0x1800, 120],
  [0x1e00, 60], // Vietnamese, Yoruba
  [0x1f00, 84], // ancient Greek
  [0x2000, 44], // quotation marks, dashes
  [0x2080, 72], // arrows, mathematics, boxes, symbols
  [0x2800, 120],
  [0x3000, 40], // kana
  [0x3100, 120],
  [0x4e00, 48], // Chinese
  [0xa000, 120],
  [0xac00, 40], // Korean
  [0xd780, 120],
  [0xfe00, 60], // full-width forms, emoji variants
]
const SCRIPT_SHIFT = 7
const SCRIPT_WEIGHTS = Uint8Array.from(
  { length: 0x10000 >> SCRIPT_SHIFT },
  (_, block) => SCRIPTS.findLast(([from]) => from <= block << SCRIPT_SHIFT)?.[1] ?? 0,
)
/** A pair of surrogates: emoji, whose first half is one of three, or four single bytes. */
const EMOJI_FROM = 0xd83c
const EMOJI_TO = 0xd83e
const EMOJI = 88
const ASTRAL = 160

const BLANK = 0x20

/** A linear estimate of the tokens of a text: one pass, no tables of words, rarely below what o200k counts. */
export function heuristicTokens(text: string): number {
  let sum = 0
  let before = AS_MARK
  let run = 0
  let runLetters = 0
  let runSum = 0
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    if (code >= 128) {
      if (code >= 0xd800 && code < 0xdc00 && isLowSurrogate(text.charCodeAt(index + 1))) {
        sum += code >= EMOJI_FROM && code <= EMOJI_TO ? EMOJI : ASTRAL
        index += 1
      } else sum += SCRIPT_WEIGHTS[code >> SCRIPT_SHIFT] ?? 0
      before = AS_WIDE
      run = runLetters = runSum = 0
      continue
    }
    const kind = CLASSES[code] ?? AS_MARK
    const weight = weightAfter(before, kind)
    // A space goes with the word after it, not with a number.
    if (kind === AS_DIGIT && before === AS_SPACE) sum += WHOLE - SPACE
    sum += weight
    before = kind
    if (kind === AS_LETTER || kind === AS_CAPITAL) {
      run += 1
      runLetters += 1
      runSum += weight
      if (run > WORD_LETTERS_MAX) {
        sum += Math.max(0, RUN_LETTER * runLetters - runSum) // the run as a whole turns out not to be a word
        runLetters = runSum = 0
        // Further letters cost the same each: megabytes of them are passed in a loop of their own.
        const from = index + 1
        while (isLetter(text.charCodeAt(index + 1))) index += 1
        run += index + 1 - from
        sum += RUN_LETTER * (index + 1 - from)
        if (index >= from) before = AS_LETTER
      }
    } else if (kind === AS_DIGIT || code === 0x2b || code === 0x3d) {
      run += 1 // digits, + and = go on with a run of base64
    } else {
      run = runLetters = runSum = 0
      if (code === BLANK) {
        const from = index + 1
        while (text.charCodeAt(index + 1) === BLANK) index += 1 // as of letters
        sum += SPACE * (index + 1 - from)
      }
    }
  }
  return Math.ceil(sum / FORTIETHS)
}

function weightAfter(before: number, kind: number): number {
  switch (kind) {
    case AS_LETTER:
      if (before === AS_LETTER || before === AS_CAPITAL) return LETTER
      return before === AS_DIGIT ? WHOLE : LETTER + WORD_START
    case AS_CAPITAL:
      if (before === AS_LETTER || before === AS_DIGIT) return WHOLE
      return before === AS_CAPITAL ? CAPITAL : CAPITAL + WORD_START
    case AS_DIGIT:
      return before === AS_DIGIT ? DIGIT : WHOLE
    case AS_MARK:
      return before === AS_DIGIT ? WHOLE : MARK
    case AS_NEWLINE:
      return before === AS_LETTER || before === AS_DIGIT ? WHOLE : SPACE
    case AS_CONTROL:
      return WHOLE
    default:
      return SPACE
  }
}

function isLetter(code: number): boolean {
  return code >= 0x61 && code <= 0x7a // NaN at the end of the text
}

function isLowSurrogate(code: number): boolean {
  return code >= 0xdc00 && code < 0xe000 // NaN at the end of the text
}
