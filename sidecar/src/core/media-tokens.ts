/**
 * Tokens of images, audio and files, from above: no tokenizer sees them, so the bound comes from what the provider says it
 * charges by size and detail (https://platform.openai.com/docs/guides/images-vision#calculating-costs) or from a ceiling.
 */
import type { ImagePart } from './request.ts'

/** An image of unknown size, or sent to a model whose rule is unknown, costs no more than this. */
export const IMAGE_TOKENS_CEILING = 10_000
/** What an image of unknown size is taken for where the ceiling leaves no room: a photo of a few megapixels. */
const IMAGE_TOKENS_USUAL = 1_600
/** What a file is taken for where its measure holds no money: some ten pages, each as text and as an image. */
const FILE_TOKENS_USUAL = 30_000
const PAGE_TOKENS = 3_000
/** Audio of unknown length: ten minutes at ten tokens a second. */
export const AUDIO_TOKENS_CEILING = 6_000
/** The thinnest speech codecs need a kilobyte a second, which is ten tokens; Gemini counts 32 (https://ai.google.dev/gemini-api/docs/tokens). */
const AUDIO_BYTES_PER_TOKEN = 100
const GEMINI_AUDIO_BYTES_PER_TOKEN = 30
const GEMINI = /^gemini-/
/** PDF text is packed about as tightly as tokens are. */
const FILE_BYTES_PER_TOKEN = 1
/** Models to which LiteLLM hands documents, films and sound on that are linked to in the place of an image: theirs take them as files. */
const HANDED_FILES = /claude|gemini|nova-/

const PATCH_PIXELS = 32
const CLAUDE_PATCH_PIXELS = 28
/** An image with no longer side is one crop to Gemini 2; larger ones are scaled into a square of the other. */
const ONE_CROP_PIXELS = 384
const CROPPED_PIXELS_MAX = 3_072
const CROP_PIXELS_MIN = 256
const CROP_PIXELS_MAX = 768
/** Of 3072 by 384 pixels. */
const MOST_CROPS = 24
const TILE_PIXELS = 512
/** Tile rule: the image is first fitted into this square, then its short side is brought to `SHORT_SIDE_PIXELS`. */
const FIT_PIXELS = 2_048
const SHORT_SIDE_PIXELS = 768
/** `low` detail is seen at 512 by 512. */
const LOW_PATCHES = 256

type Rule =
  | { readonly by: 'tiles'; readonly base: number; readonly tile: number }
  /** `multiplier` in percent; `side` in pixels, absent: 32. `whole`: seen as it is, whatever detail is asked for. */
  | { readonly by: 'patches'; readonly patchesMax: number; readonly multiplier: number; readonly side?: number; readonly whole?: true }
  /** So many whatever its size. */
  | { readonly by: 'image'; readonly tokens: number; readonly ultraHigh: number }
  | { readonly by: 'crops'; readonly crop: number }

/** First match wins; so the narrower name comes first. */
const RULES: readonly { readonly model: RegExp; readonly rule: Rule }[] = [
  { model: /^gpt-4o-mini/, rule: { by: 'tiles', base: 2_833, tile: 5_667 } },
  { model: /^(gpt-4o|chatgpt-4o|gpt-4-turbo|gpt-4\.5|gpt-4\.1(-\d|$))/, rule: { by: 'tiles', base: 85, tile: 170 } },
  { model: /^(gpt-4\.1|gpt-5(\.\d)?)-mini/, rule: { by: 'patches', patchesMax: 1_536, multiplier: 162 } },
  { model: /^(gpt-4\.1|gpt-5(\.\d)?)-nano/, rule: { by: 'patches', patchesMax: 1_536, multiplier: 246 } },
  { model: /^o4-mini/, rule: { by: 'patches', patchesMax: 1_536, multiplier: 172 } },
  // Users report 5.1 and 5.2 at 1.2 times the documented 70 and 140.
  { model: /^gpt-5(\.[12])?(-|$)/, rule: { by: 'tiles', base: 84, tile: 168 } },
  { model: /^o[13](-|$)/, rule: { by: 'tiles', base: 75, tile: 150 } },
]
/** For a model without a rule of its own: the dearest of each kind that is not a known exception. */
const UNKNOWN_RULES: readonly Rule[] = [
  { by: 'tiles', base: 85, tile: 170 },
  { by: 'patches', patchesMax: 1_536, multiplier: 246 },
  { by: 'patches', patchesMax: IMAGE_TOKENS_CEILING, multiplier: 100 },
]
/**
 * From Opus 4.7 on images are seen in patches of 28 pixels, up to so many; older models see less, by a rule that is not given in patches.
 * Clouds put words before the name. https://platform.claude.com/docs/en/build-with-claude/vision
 */
const CLAUDE = /claude/
const CLAUDE_RULES: readonly Rule[] = [
  ...UNKNOWN_RULES,
  { by: 'patches', patchesMax: 4_784, multiplier: 100, side: CLAUDE_PATCH_PIXELS, whole: true },
]
/**
 * Gemini 3 allots a number to an image, by `mediaResolution` (https://ai.google.dev/gemini-api/docs/media-resolution#token-counts); Gemini 2 cuts
 * it into crops of two thirds of its shorter side (https://firebase.google.com/docs/ai-logic/input-file-requirements). Which of them a name is of
 * is not asked: a later one may go by either.
 */
const GEMINI_RULES: readonly Rule[] = [...UNKNOWN_RULES, { by: 'image', tokens: 1_120, ultraHigh: 2_240 }, { by: 'crops', crop: 258 }]

/**
 * Whether nothing but the context of its model bounds what a part costs: an empty page of a PDF is a few bytes and thousands of tokens, and
 * Gemini follows links to films and recordings of hours, whatever kind the request says that they are, but for one that is passed on to it as a
 * picture's.
 */
export function isUnbounded(part: ImagePart, model: string): boolean {
  return isFile(part, model) || (part.embeddedBytes === undefined && part.linkedAs !== 'picture' && isGemini(model))
}

/** A link to a picture may end as a file does (`/render/report.pdf?page=1`): at most providers it can be nothing else. */
function isFile({ kind, linkedAs }: ImagePart, model: string): boolean {
  return kind === 'file' || (linkedAs === 'other' && HANDED_FILES.test(bareName(model)))
}

/** Of the sound in one part, the most that it can cost, in tokens; `Infinity` where nothing bounds it: a film has any. */
export function soundTokensBound(part: ImagePart, model: string): number {
  if (part.kind === 'audio') return mediaTokensBound(part, model)
  return part.isSilent !== true && isUnbounded(part, model) ? Number.POSITIVE_INFINITY : 0
}

/** The most that one part can cost, in tokens; `Infinity` where nothing bounds it. */
export function mediaTokensBound(part: ImagePart, model: string): number {
  if (isUnbounded(part, model)) return Number.POSITIVE_INFINITY
  return part.kind === 'image' ? imageTokens(part, model, IMAGE_TOKENS_CEILING) : audioTokens(part, model)
}

function audioTokens({ embeddedBytes }: ImagePart, model: string): number {
  const bytesPerToken = isGemini(model) ? GEMINI_AUDIO_BYTES_PER_TOKEN : AUDIO_BYTES_PER_TOKEN
  if (embeddedBytes === undefined) return Math.ceil((AUDIO_TOKENS_CEILING * AUDIO_BYTES_PER_TOKEN) / bytesPerToken)
  return Math.ceil(embeddedBytes / bytesPerToken) + 10
}

/** What one part usually costs at most: the same where its size is known, a common size where it is not. */
export function mediaTokensUsual(part: ImagePart, model: string): number {
  if (part.kind === 'audio') return audioTokens(part, model)
  if (!isFile(part, model)) return imageTokens(part, model, IMAGE_TOKENS_USUAL)
  const { embeddedBytes } = part
  return embeddedBytes === undefined
    ? FILE_TOKENS_USUAL
    : Math.min(FILE_TOKENS_USUAL, PAGE_TOKENS + Math.ceil(embeddedBytes / FILE_BYTES_PER_TOKEN))
}

function imageTokens(part: ImagePart, model: string, ofUnknownSize: number): number {
  let most = 0
  for (const rule of rulesOf(bareName(model))) most = Math.max(most, tokensByRule(rule, part, ofUnknownSize))
  return most
}

function rulesOf(name: string): readonly Rule[] {
  const known = RULES.find((entry) => entry.model.test(name))
  if (known !== undefined) return [known.rule]
  if (GEMINI.test(name)) return GEMINI_RULES
  return CLAUDE.test(name) ? CLAUDE_RULES : UNKNOWN_RULES
}

function isGemini(model: string): boolean {
  return GEMINI.test(bareName(model))
}

/** A model as its maker names it: without `models/` or whose it is (`openai/`), and a tuned one (`ft:name:owner`) by what it was tuned from. */
function bareName(model: string): string {
  const name = TUNED.exec(model)?.[1] ?? model
  return name.slice(name.lastIndexOf('/') + 1)
}
const TUNED = /(?:^|\/)ft:([^:]+)/

function tokensByRule(rule: Rule, part: ImagePart, ofUnknownSize: number): number {
  if (rule.by === 'tiles') {
    if (part.detail === 'low') return rule.base
    return rule.base + rule.tile * (part.size === null ? MOST_TILES : tiles(part.size.width, part.size.height))
  }
  if (rule.by === 'image') return part.detail === 'ultraHigh' ? rule.ultraHigh : rule.tokens
  if (rule.by === 'crops') return part.size === null ? Math.min(ofUnknownSize, rule.crop * MOST_CROPS) : rule.crop * crops(part.size)
  if (part.detail === 'low' && rule.whole !== true) return Math.ceil((LOW_PATCHES * rule.multiplier) / 100)
  const { side = PATCH_PIXELS } = rule
  const patches = part.size === null ? ofUnknownSize : Math.ceil(part.size.width / side) * Math.ceil(part.size.height / side)
  return Math.ceil((Math.min(patches, rule.patchesMax) * rule.multiplier) / 100)
}

/** 2048 by 768 pixels, the largest that is left after both scalings. */
const MOST_TILES = (FIT_PIXELS / TILE_PIXELS) * Math.ceil(SHORT_SIDE_PIXELS / TILE_PIXELS)

function tiles(width: number, height: number): number {
  const fit = Math.min(1, FIT_PIXELS / Math.max(width, height))
  const short = Math.min(1, SHORT_SIDE_PIXELS / (Math.min(width, height) * fit))
  return Math.ceil((width * fit * short) / TILE_PIXELS) * Math.ceil((height * fit * short) / TILE_PIXELS)
}

function crops({ width, height }: NonNullable<ImagePart['size']>): number {
  const longer = Math.max(width, height)
  if (longer <= ONE_CROP_PIXELS) return 1
  if (longer > CROPPED_PIXELS_MAX) return MOST_CROPS
  const side = Math.max(CROP_PIXELS_MIN, Math.min(CROP_PIXELS_MAX, Math.floor(Math.min(width, height) / 1.5)))
  return Math.ceil(width / side) * Math.ceil(height / side)
}
