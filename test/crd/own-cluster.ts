/** An API server for a file of tests that changes what it serves: started before the first of them, ended after the last. */
import { after, before, test } from 'node:test'
import type { TestContext } from 'node:test'
import type { Cluster } from '../cluster/cluster.ts'
import { ownCluster } from '../support/cluster.ts'
import { install } from './api.ts'

export interface OwnCluster {
  /** Only within tests. */
  readonly cluster: () => Cluster
  /** A test that is left out where there is no control plane. */
  readonly test: (name: string, body: (context: TestContext) => Promise<void>) => void
}

/** With our definitions and these namespaces in it. */
export function withOwnCluster(namespaces: readonly string[]): OwnCluster {
  let started: Cluster | null = null
  before(async () => {
    started = await ownCluster()
    if (started === null) return
    await install(started)
    for (const name of namespaces) await started.kubectl(['create', 'namespace', name])
  })
  after(() => started?.stop())
  return {
    cluster() {
      if (started === null) throw new TypeError('there is no cluster')
      return started
    },
    test(name, body) {
      void test(name, (context) => (started === null ? context.skip('there is no control plane') : body(context)))
    },
  }
}
