/** Plausible text of an exact length in tokens, made from words that are one o200k token each. */
import type { Random } from './random.ts'
import { countTokens } from './tokens.ts'

export type Language = 'en' | 'de'

/** Text of exactly `count` tokens, as the pieces that a model would stream. */
export function prose(random: Random, count: number, language: Language): string[] {
  const { starts, words } = vocabularyOf(language)
  const pieces: string[] = []
  let wordsLeft = 0
  while (pieces.length < count) {
    const last = pieces.length === count - 1
    if (pieces.length > 0 && (wordsLeft === 0 || last)) {
      pieces.push(last ? '.' : random.below(5) === 0 ? '.\n\n' : '.')
      wordsLeft = 0
      if (last) break
    }
    if (wordsLeft === 0) {
      const start = random.pick(starts)
      pieces.push(pieces.at(-1) === '.' ? ` ${start}` : start)
      wordsLeft = 5 + random.below(10)
    } else {
      pieces.push(` ${random.pick(words)}`)
    }
    wordsLeft -= 1
  }
  return pieces
}

/** A guess at the language of `text`. */
export function languageOf(text: string): Language {
  return /[äöüß]|\b(und|ich|nicht|bitte|der|die|das|eine?n?|ist|mein)\b/i.test(text.slice(0, 400)) ? 'de' : 'en'
}

const STARTS: Readonly<Record<Language, string>> = {
  en: 'The This We You Your That It There Please Here Once After When If Our For As To Then Also',
  de: 'Die Das Der Wir Sie Es Ihre Hier Bitte Wenn Nach Dann Auch Für Ein Eine',
}
const WORDS: Readonly<Record<Language, string>> = {
  en: `order account request status team support time date number case change update details information delivery payment return
    question answer option step service address email note item price plan page next first last new same other available ready open
    for with from to in on at by and or but so as if when after before about into over within the a an this that your our their
    is are was were will can may should have has been check confirm send find see keep make take give use need want help look show
    please now again soon today also already still only each any all more some most very quite well right away directly`,
  de: `die der das den dem ein eine einen mit von zu in auf an für und oder aber wenn nach vor über bei aus im zum zur
    ist sind war wird werden kann soll haben hat wurde Zeit Frage Antwort Nummer Kunden Daten Preis Seite Team Service neue erste
    bitte jetzt wieder auch schon noch nur alle mehr sehr gut dann hier heute immer`,
}

interface Vocabulary {
  readonly starts: readonly string[]
  readonly words: readonly string[]
}

const vocabularies = new Map<Language, Vocabulary>()

/** Only words that are one token, with and without the space before them where they may stand so. */
function vocabularyOf(language: Language): Vocabulary {
  const known = vocabularies.get(language)
  if (known !== undefined) return known
  const isOne = (text: string): boolean => countTokens(text) === 1
  const starts = STARTS[language].split(/\s+/).filter((word) => isOne(word) && isOne(` ${word}`))
  const words = WORDS[language].split(/\s+/).filter((word) => isOne(` ${word}`))
  const vocabulary = { starts, words }
  vocabularies.set(language, vocabulary)
  return vocabulary
}
