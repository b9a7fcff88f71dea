/**
 * Bundles the sidecar as images run it: two files in `dist/`, the program and the thread that writes its tables. Without
 * the type stripping and the files of its packages it starts sooner and takes less memory.
 */
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

export const BUNDLE_MAIN = fileURLToPath(new URL('dist/main.mjs', import.meta.url))
/**
 * What Node is started with. One thread collects garbage: more of them cost CPU and save no time on two cores. Most of what
 * a turn makes dies young, so the young space is large enough for it; the old one is collected before it has grown by much.
 */
export const NODE_FLAGS = [
  '--disable-warning=ExperimentalWarning',
  '--single-threaded-gc',
  '--max-semi-space-size=8',
  '--heap-growing-percent=20',
] as const

/** Writes `dist/`. Rejects when a source cannot be bundled; esbuild has said why by then. */
export async function bundleSidecar(): Promise<void> {
  const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
  await build({
    entryPoints: { main: source('src/main.ts'), 'tables-thread': source('src/store/tables-thread.ts') },
    outdir: source('dist'),
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    legalComments: 'linked',
    logLevel: 'warning',
    // Some packages are CommonJS and ask for Node's own modules by `require`.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  })
}

if (import.meta.main) await bundleSidecar()
