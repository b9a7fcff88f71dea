/**
 * Bundles the sidecar as images run it: two files in `dist/`, the program and the thread that writes its tables. Without
 * the type stripping and the files of its packages it starts sooner and takes less memory.
 */
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

export const BUNDLE_MAIN = fileURLToPath(new URL('dist/main.cjs', import.meta.url))
/**
 * What Node is started with. V8 learns which objects live long and then makes them old at once: a request that lives for as
 * long as a provider takes teaches it the wrong thing, and all that such objects hold stays until the next full collection.
 * One thread collects garbage, and one compiles: more of them cost CPU and memory and save no time on two cores. Old objects are
 * collected when they take 1.6 times what they took after the last time, and 20 MB at first; V8's own choice is up to four times.
 * Young ones are collected while old ones are marked, too: V8 would let them grow to eight times their room until that is over, and
 * keeps the pages. Of its two optimising compilers the last is enough: what both take to work is kept by the C library. A function is optimised
 * after 800 calls, where V8 waits for 3,000: with a call a second that is most of an hour of slower code.
 */
export const NODE_FLAGS = [
  '--disable-warning=ExperimentalWarning',
  '--no-allocation-site-pretenuring',
  '--single-threaded-gc',
  '--max-semi-space-size=4',
  '--initial-old-space-size=20',
  '--heap-growing-percent=60',
  '--no-separate-gc-phases',
  '--no-maglev',
  '--invocation-count-for-turbofan=800',
  '--expose-gc',
  '--v8-pool-size=1',
] as const

/** Writes `dist/`, or the folder given. Rejects when a source cannot be bundled; esbuild has said why by then. */
export async function bundleSidecar(outdir: string = dirname(BUNDLE_MAIN)): Promise<void> {
  const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
  await build({
    entryPoints: { main: source('src/main.ts'), 'tables-thread': source('src/store/tables-thread.ts') },
    outdir,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    legalComments: 'linked',
    logLevel: 'warning',
    minifyWhitespace: true,
    // CommonJS: an `import` of `node:http` or `node:tls` reads all that they export, and so loads `fetch` and all root certificates.
    define: { 'import.meta.url': 'moduleUrl' },
    banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
  })
}

if (import.meta.main) await bundleSidecar()
