/**
 * How the embedded engine finds what a user said: a full-text index (https://www.sqlite.org/fts5.html) over terms that are
 * made of digits, small letters and `_` alone, whatever the words were, each behind a digest of its user. So no word is ever the index's
 * syntax, and what one user asks for is in no entry of another.
 */
import { hash } from 'node:crypto'
import { termsOf } from './memory-search.ts'
import type { QueryTerm } from './memory-search.ts'

/** Hex digits. Of a million users two may share them; each entry says whose it is. */
const OWNER_LENGTH = 10
const NOT_PLAIN = /[^a-z0-9]/g

/** What the index has of a text, between blanks. */
export function indexedTerms(user: string, text: string): string {
  const owner = ownerOf(user)
  return [...new Set(termsOf(text))].map((term) => owner + encoded(term)).join(' ')
}

/** Matches the entries of the user that may be hits; null where there is nothing to look for. */
export function matchOf(user: string, terms: readonly QueryTerm[]): string | null {
  const owner = ownerOf(user)
  return terms.length === 0 ? null : terms.map(({ term, isPrefix }) => `"${owner}${encoded(term)}"${isPrefix ? '*' : ''}`).join(' OR ')
}

function ownerOf(user: string): string {
  return hash('sha256', user, 'hex').slice(0, OWNER_LENGTH)
}

/** Each character by itself, so that what begins a term also begins what stands for it. */
function encoded(term: string): string {
  return term.replaceAll(NOT_PLAIN, (unit) => `_${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
