/** What follows from the schemas, as files: the CRDs in `crds/generated` and the pages in `docs/reference`. Pure: `generate.ts` writes them. */
import { dump } from 'js-yaml'
import { KINDS } from './check.ts'
import type { Kind } from './check.ts'
import { crdOf, KIND_NAMES } from './crd.ts'
import { API_GROUP } from './fields.ts'
import { pageName, referenceIndex, referencePage } from './reference.ts'

/** Texts by path from the root of the repository. */
export type Files = ReadonlyMap<string, string>

/** Folders that hold nothing but generated files. */
export const GENERATED_FOLDERS = ['crds/generated', 'docs/reference'] as const

const HEADER = '# Generated from crds/src by `make generate`: edit the schemas there.\n'
const LINE_WIDTH = 140

/** Every file that is to be there. */
export function generatedFiles(): Files {
  const [crds, reference] = GENERATED_FOLDERS
  const kinds = Object.keys(KINDS).filter((kind): kind is Kind => Object.hasOwn(KINDS, kind))
  return new Map([
    ...kinds.map((kind): [string, string] => [
      `${crds}/${API_GROUP}_${KIND_NAMES[kind].plural}.yaml`,
      HEADER + dump(crdOf(kind), { noRefs: true, lineWidth: LINE_WIDTH }),
    ]),
    ...kinds.map((kind): [string, string] => [`${reference}/${pageName(kind)}`, referencePage(kind)]),
    [`${reference}/README.md`, referenceIndex()],
  ])
}

/** Paths of files that are missing, differ, or are no longer wanted; in order. */
export function staleFiles(wanted: Files, present: Files): readonly string[] {
  const paths = new Set([...wanted.keys(), ...present.keys()])
  return [...paths].filter((path) => wanted.get(path) !== present.get(path)).toSorted()
}
