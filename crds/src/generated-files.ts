/**
 * What follows from the schemas, as files: the CRDs in `crds/generated`, the same as templates of their chart, and the pages in
 * `docs/reference`. Pure: `generate.ts` writes them.
 */
import { dump } from 'js-yaml'
import { KINDS } from './check.ts'
import type { Kind } from './check.ts'
import { crdOf, KIND_NAMES } from './crd.ts'
import { API_GROUP } from './fields.ts'
import { pageName, referenceIndex, referencePage } from './reference.ts'

/** Texts by path from the root of the repository. */
export type Files = ReadonlyMap<string, string>

/** Folders that hold nothing but generated files. */
export const GENERATED_FOLDERS = ['crds/generated', 'charts/farebox-crds/templates', 'docs/reference'] as const

const HEADER = '# Generated from crds/src by `make generate`: edit the schemas there.\n'
const LINE_WIDTH = 140
/** Uninstalling the chart would otherwise delete every tier and budget of the cluster. */
const KEEP = { 'helm.sh/resource-policy': 'keep' } as const

/** Every file that is to be there. */
export function generatedFiles(): Files {
  const [crds, chart, reference] = GENERATED_FOLDERS
  const kinds = Object.keys(KINDS).filter((kind): kind is Kind => Object.hasOwn(KINDS, kind))
  return new Map([
    ...kinds.map((kind): [string, string] => [`${crds}/${fileName(kind)}`, HEADER + yamlOf(crdOf(kind))]),
    ...kinds.map((kind): [string, string] => [`${chart}/${fileName(kind)}`, HEADER + chartTemplate(kind)]),
    ...kinds.map((kind): [string, string] => [`${reference}/${pageName(kind)}`, referencePage(kind)]),
    [`${reference}/README.md`, referenceIndex()],
  ])
}

function fileName(kind: Kind): string {
  return `${API_GROUP}_${KIND_NAMES[kind].plural}.yaml`
}

/** The definition as Helm is to write it: braces in a text are no actions of a template. */
function chartTemplate(kind: Kind): string {
  const named = { name: `${KIND_NAMES[kind].plural}.${API_GROUP}`, annotations: KEEP }
  const text = yamlOf({ ...crdOf(kind), metadata: named })
  return text.replaceAll('{{', '{{ `{{` }}')
}

function yamlOf(object: object): string {
  return dump(object, { noRefs: true, lineWidth: LINE_WIDTH })
}

/** Paths of files that are missing, differ, or are no longer wanted; in order. */
export function staleFiles(wanted: Files, present: Files): readonly string[] {
  const paths = new Set([...wanted.keys(), ...present.keys()])
  return [...paths].filter((path) => wanted.get(path) !== present.get(path)).toSorted()
}
