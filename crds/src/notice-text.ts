/** Words that users read: which placeholders they may hold, and what is wrong with a text that cannot be shown. */

/**
 * `remaining`: money left, in the tier's currency; `percent`: percent of the budget used; `tier`: display name of the tier (in an
 * upgrade text: of the tier offered); `turns`: turns of the conversation so far.
 */
export const NOTICE_PLACEHOLDERS = ['remaining', 'percent', 'tier', 'turns'] as const
export type NoticePlaceholder = (typeof NOTICE_PLACEHOLDERS)[number]

/** A placeholder in a text, spaces allowed: `{{remaining}}`. Global: for `replaceAll` and `matchAll`. */
export const NOTICE_PLACEHOLDER_PATTERN = /\{\{\s*([A-Za-z]+)\s*\}\}/g

/** Control characters but line breaks and tabs, and marks that turn the direction of text: readers could not see what is said. */
const UNSEEN_PATTERN = /(?![\t\n\r])[\p{Cc}\p{Zl}\p{Zp}\u200b\u202a-\u202e\u2066-\u2069\ufeff]/u

/** What is wrong with a text of a notice, for its author; null when it can be shown. An empty text asks for silence. */
export function checkNoticeText(text: string): string | null {
  for (const [whole, name = ''] of text.matchAll(NOTICE_PLACEHOLDER_PATTERN)) {
    if (!isPlaceholder(name)) return `${whole} must be one of ${NOTICE_PLACEHOLDERS.map((known) => `{{${known}}}`).join(', ')}`
  }
  const rest = text.replaceAll(NOTICE_PLACEHOLDER_PATTERN, '')
  if (rest.includes('{{') || rest.includes('}}')) return 'each placeholder must be a name between "{{" and "}}", such as {{percent}}'
  const unseen = UNSEEN_PATTERN.exec(text)?.[0].codePointAt(0)
  if (unseen !== undefined) return `must not hold the invisible character U+${unseen.toString(16).toUpperCase().padStart(4, '0')}`
  return null
}

function isPlaceholder(name: string): name is NoticePlaceholder {
  return NOTICE_PLACEHOLDERS.some((known) => known === name)
}
