/** Bundles of the operator and the sidecar, for the files of one run. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bundleOperator } from '../../operator/build.ts'
import { bundleSidecar } from '../../sidecar/build.ts'
import { BUNDLES } from './programs.ts'

/** For the processes that are started from now on. They are gone when this one ends. */
export async function bundlePrograms(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'farebox-bundles-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  await Promise.all([bundleSidecar(join(folder, 'sidecar')), bundleOperator(join(folder, 'operator'))])
  process.env[BUNDLES] = folder
}
