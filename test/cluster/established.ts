import type { Cluster } from './cluster.ts'
import { waitFor } from '../support/wait-for.ts'

/** Waits until the API server serves these kinds (`crd/NAME`, or `crd --all`). kubectl fails at one that it has told nothing of so far. */
export async function established(cluster: Pick<Cluster, 'kubectl'>, ...which: readonly string[]): Promise<void> {
  await waitFor(
    'the kinds',
    async () => (await cluster.kubectl(['wait', '--for=condition=Established', ...which, '--timeout=10s'], { mayFail: true })).code === 0,
    { withinMs: 60_000 },
  )
}
