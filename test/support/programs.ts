/**
 * The operator and the sidecar that tests start: the sources as they are, or the bundles that a run of many files made of them once,
 * as images have them. Those start in a third of the time.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Folder of the bundles. */
export const BUNDLES = 'FAREBOX_TEST_BUNDLES'

export const SIDECAR_MAIN = mainOf('sidecar')
export const OPERATOR_MAIN = mainOf('operator')

function mainOf(program: 'sidecar' | 'operator'): string {
  const folder = process.env[BUNDLES]
  return folder === undefined ? fileURLToPath(new URL(`../../${program}/src/main.ts`, import.meta.url)) : join(folder, program, 'main.cjs')
}
