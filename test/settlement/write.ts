/**
 * Writes what each case costs, by the oracle, into the files of cases: after a case was added, or the source of prices has moved on.
 * The diff is to be read: it says which calls cost something else now.
 */
import { writeFileSync } from 'node:fs'
import { caseFiles } from './cases.ts'
import { costInUsd } from './oracle.ts'

for (const [url, file] of caseFiles()) {
  const cases = file.cases.map((each) => ({ ...each, expectedUsd: costInUsd(file.provider, each, file.own) }))
  const head = JSON.stringify({ ...file, cases: undefined }, null, 1).slice(0, -2)
  writeFileSync(url, `${head},\n "cases": [\n${cases.map((each) => `  ${JSON.stringify(each)}`).join(',\n')}\n ]\n}\n`)
}
