/** What a query of Prometheus asks for. */
import { parser } from '@prometheus-io/lezer-promql'
import { load } from 'js-yaml'

export interface Selector {
  readonly metric: string
  readonly matchers: readonly Matcher[]
}

export interface Matcher {
  readonly label: string
  readonly value: string
}

export interface Query {
  readonly selectors: readonly Selector[]
  /** Labels by which series are brought together, here or further in. */
  readonly groupedBy: readonly string[]
  /** Those of them that the result has. */
  readonly keeps: readonly string[]
}

/** Reads a query. Throws `SyntaxError`, with the place, where it is none. */
export function readQuery(text: string): Query {
  const selectors: { metric: string; matchers: Matcher[] }[] = []
  const groups: string[][] = []
  let label = ''
  parser.parse(text).iterate({
    enter({ name, type, from, to, node }) {
      const word = text.slice(from, to)
      if (type.isError) throw new SyntaxError(`at ${from} of: ${text}`)
      if (name === 'VectorSelector') selectors.push({ metric: '', matchers: [] })
      const selector = selectors.at(-1)
      if (name === 'Without') throw new SyntaxError(`"without" leaves open what is kept: say "by" in: ${text}`)
      if (name === 'GroupingLabels') groups.push([])
      if (name === 'Identifier' && selector !== undefined) selector.metric = word
      if (name === 'LabelName' && node.parent?.name === 'GroupingLabels') groups.at(-1)?.push(word)
      else if (name === 'LabelName') label = word
      // Strings are quoted as in YAML, as far as metrics have them.
      if (name === 'StringLiteral' && node.parent?.name === 'UnquotedLabelMatcher')
        selector?.matchers.push({ label, value: String(load(word)) })
    },
  })
  // The outermost come first.
  return { selectors, groupedBy: groups.flat(), keeps: groups[0] ?? [] }
}
