/**
 * Bundles the operator as images run it: `dist/main.cjs`, the thread that renews the Lease beside it, and the test that `helm test`
 * runs. One file instead of thousands starts in a third of the time.
 */
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

export const BUNDLE_FOLDER = fileURLToPath(new URL('dist', import.meta.url))

/** Writes `dist/`, or the folder given. Rejects when a source cannot be bundled; esbuild has said why by then. */
export async function bundleOperator(outdir: string = BUNDLE_FOLDER): Promise<void> {
  const source = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
  rmSync(outdir, { recursive: true, force: true })
  const common = {
    outdir,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    legalComments: 'linked',
    logLevel: 'warning',
    minifyWhitespace: true,
    define: { 'import.meta.url': 'moduleUrl' },
    banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
  } as const
  await build({
    ...common,
    entryPoints: { main: source('src/main.ts'), 'self-test': source('src/self-test.ts') },
    outExtension: { '.js': '.cjs' },
  })
  // `main` asks for it by this name. Without a package.json above it, Node takes a .js file for CommonJS.
  await build({ ...common, entryPoints: { 'lease-worker': source('src/kube/lease-worker.ts') } })
}

if (import.meta.main) await bundleOperator()
