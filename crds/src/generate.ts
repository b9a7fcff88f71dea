/**
 * Writes what follows from the schemas: `make generate`. With `--check` it writes nothing, and exits 1 with the name of each file
 * that is stale, missing or no longer wanted.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { GENERATED_FOLDERS, generatedFiles, staleFiles } from './generated-files.ts'

const ROOT = new URL('../../', import.meta.url)

const wanted = generatedFiles()
for (const folder of GENERATED_FOLDERS) mkdirSync(new URL(folder, ROOT), { recursive: true })
const present = new Map(
  GENERATED_FOLDERS.flatMap((folder) => readdirSync(new URL(folder, ROOT)).map((name) => `${folder}/${name}`)).map((path) => [
    path,
    readFileSync(new URL(path, ROOT), 'utf8'),
  ]),
)
const stale = staleFiles(wanted, present)
if (process.argv.includes('--check')) {
  for (const path of stale) console.error(`${path} is stale: run make generate`)
  process.exitCode = stale.length > 0 ? 1 : 0
} else {
  for (const path of stale) {
    const text = wanted.get(path)
    if (text === undefined) rmSync(new URL(path, ROOT))
    else writeFileSync(new URL(path, ROOT), text)
  }
}
