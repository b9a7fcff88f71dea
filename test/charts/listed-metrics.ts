/** The metrics that docs/metrics.md lists, which a test of the programs holds against what they serve. */
import { readFileSync } from 'node:fs'
import { ROOT } from './helm.ts'

export const METRICS_PAGE = readFileSync(`${ROOT}docs/metrics.md`, 'utf8')

/** Labels of each, by the names that queries know it by. */
export function listedMetrics(): ReadonlyMap<string, readonly string[]> {
  const listed = new Map<string, readonly string[]>()
  for (const [, name = '', type, labels = ''] of METRICS_PAGE.matchAll(/^\| `(farebox_\w+)` \| (\w+) \| .* \|([^|]*)\|$/gm)) {
    const names = labels.match(/\w+/g) ?? []
    if (type === 'histogram') {
      for (const suffix of ['count', 'sum']) listed.set(`${name}_${suffix}`, names)
      listed.set(`${name}_bucket`, [...names, 'le'])
    } else listed.set(name, names)
  }
  return listed
}
