/** docs/sdks.md as its tables: a test holds them to what the matrix sees. */
import { readFileSync } from 'node:fs'
import { WAYS } from './sdk.ts'
import type { Sdk, Way } from './sdk.ts'
import type { Expected } from './stages.ts'

const PAGE = new URL('../../docs/sdks.md', import.meta.url)
/** Where a sidecar is, in the page's words. */
const ORIGIN = 'http://127.0.0.1:4180'

/** The rows of all tables of the page, by their first cell; the heads of the tables are rows too. */
export function pageRows(): ReadonlyMap<string, readonly string[]> {
  const lines = readFileSync(PAGE, 'utf8').split('\n')
  const rows = lines
    .filter((line) => line.startsWith('| '))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    )
  return new Map(rows.map(([name = '', ...cells]) => [name, cells]))
}

/** What the page says of an SDK: version, address in code, variable, and the exception for a 402. */
export function rowOf(sdk: Sdk): readonly string[] {
  const variables = Object.entries(sdk.environment?.(ORIGIN) ?? {}).map(([name, value]) => `\`${name}=${value}\``)
  return [sdk.version, `\`${sdk.address(ORIGIN)}\``, variables.join(', ') || 'none', `\`${sdk.refusal}\``]
}

export const WAYS_IN_WORDS: Readonly<Record<Way, string>> = {
  plain: 'plain',
  streamed: 'streamed',
  tools: 'tools offered',
  streamedTools: 'tools offered, streamed',
  forced: 'a tool forced',
  structured: 'structured output',
}

/** What the page says of a stage, for each way in turn. */
export function stageRow(expected: (way: Way) => Expected): readonly string[] {
  return WAYS.map((way) => {
    const outcome = expected(way)
    return outcome.status === 'refused' ? `402 \`${outcome.code}\`` : outcome.status === 'closed' ? 'closing words' : 'the answer'
  })
}
