/** The golden cases, one file of `testdata/` for each provider: what it answered, and what that costs. */
import { readdirSync, readFileSync } from 'node:fs'
import type { OwnPrices, SettlementCase } from './oracle.ts'

export interface CaseFile {
  readonly provider: string
  /** Prices of servers that no list has. */
  readonly own?: OwnPrices
  readonly cases: readonly SettlementCase[]
}

const FOLDER = new URL('./testdata/', import.meta.url)

/** By name of the file. */
export function caseFiles(): ReadonlyMap<URL, CaseFile> {
  const names = readdirSync(FOLDER).filter((name) => name.endsWith('.json'))
  return new Map(
    names.toSorted().map((name) => {
      const url = new URL(name, FOLDER)
      return [url, JSON.parse(readFileSync(url, 'utf8')) as CaseFile]
    }),
  )
}
