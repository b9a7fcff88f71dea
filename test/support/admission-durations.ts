/** How long our webhook takes, by the API server's own count. */
import type { Cluster } from '../cluster/cluster.ts'

/** How many admissions took at most so many seconds. */
export type AdmissionDurations = ReadonlyMap<number, number>

/** Since the API server began. */
export async function admissionDurations(cluster: Cluster): Promise<AdmissionDurations> {
  const { body } = await cluster.request<string>({ path: '/metrics' })
  const counts = new Map<number, number>()
  for (const line of body.split('\n')) {
    const [, labels = '', count = ''] = /^apiserver_admission_webhook_admission_duration_seconds_bucket\{([^}]*)\} (\d+)$/.exec(line) ?? []
    const [, bound] = /le="([^"]+)"/.exec(labels) ?? []
    if (!labels.includes('name="inject.farebox.dev"') || bound === undefined) continue
    const atMost = bound === '+Inf' ? Infinity : Number(bound)
    counts.set(atMost, (counts.get(atMost) ?? 0) + Number(count))
  }
  return counts
}

/** Of those that came between the two: how many, and in seconds what `share` of them took at most, as Prometheus' `histogram_quantile` has it. */
export function admissionQuantile(
  before: AdmissionDurations,
  after: AdmissionDurations,
  share: number,
): { readonly count: number; readonly seconds: number } {
  const counts = [...after]
    .map(([bound, count]): [number, number] => [bound, count - (before.get(bound) ?? 0)])
    .toSorted(([a], [b]) => a - b)
  const [, count = 0] = counts.at(-1) ?? []
  let [below, fewer] = [0, 0]
  for (const [bound, within] of counts) {
    if (within >= count * share && within > fewer) {
      const seconds = bound === Infinity ? below : below + ((bound - below) * (count * share - fewer)) / (within - fewer)
      return { count, seconds }
    }
    ;[below, fewer] = [bound, within]
  }
  return { count, seconds: 0 }
}
