/**
 * Where YAML says something else to others than it says here. We read YAML 1.2, as editors show it; kubectl, Helm and Argo read it
 * as Go's yaml v2 does (`on`, `no`, `017`, `1_000`), and other tools read YAML 1.1 to the letter (`12:30:45`, `1e3`).
 */
import { isRecord } from '@farebox/crds/schema-walk.ts'
import { boolYaml11Tag, CORE_SCHEMA, defineScalarTag, loadAll, mergeTag, NOT_RESOLVED, YAML11_SCHEMA } from 'js-yaml'
import type { Schema } from 'js-yaml'

/** One value as each of them reads it; `undefined` where that cannot be told. */
export interface Reading {
  readonly here: unknown
  readonly kubectl: unknown
  readonly yaml11: unknown
}

/** A value, or a name, that others read otherwise. */
export interface YamlTrap {
  readonly field: string
  readonly message: string
  /** What is text here and a number to kubectl; null: anything else. */
  readonly number: number | null
}

/** The documents of a text. Throws what the YAML parser throws. */
export function readDocuments(text: string): readonly Reading[] {
  const here = loadAll(text, { schema: HERE })
  const kubectl = documentsAs(text, KUBECTL)
  const yaml11 = documentsAs(text, YAML11_SCHEMA)
  return here.map((value, index) => ({ here: value, kubectl: kubectl[index], yaml11: yaml11[index] }))
}

/** Fields that others would read otherwise, each told once. */
export function trapsOf({ here, kubectl, yaml11 }: Reading): readonly YamlTrap[] {
  const traps = differences(here, kubectl, '', 'kubectl')
  const told = new Set(traps.map(({ field }) => field))
  return [...traps, ...differences(here, yaml11, '', 'YAML 1.1').filter(({ field }) => !told.has(field))]
}

/** Merge keys (`<<`) are of YAML 1.1, but everybody reads them alike. */
const HERE = CORE_SCHEMA.withTags(mergeTag)

/** As `strconv.ParseInt(text, 0, 64)` reads it: underscores aside, and octal after a zero. */
const INT_OF_GO = defineScalarTag('tag:yaml.org,2002:int', {
  implicit: true,
  implicitFirstChars: null,
  identify: () => false,
  resolve(source) {
    const [, sign, digits] = /^([-+]?)(0x[0-9a-f]+|0b[01]+|0o?[0-7]+|0|[1-9][0-9]*)$/i.exec(source.replaceAll('_', '')) ?? []
    if (digits === undefined) return NOT_RESOLVED
    const value = Number(digits.replace(/^0o?(?=[0-7])/i, '0o'))
    return sign === '-' ? -value : value
  },
})
/** Underscores aside; `08` is no octal, and so a float. */
const FLOAT_OF_GO = defineScalarTag('tag:yaml.org,2002:float', {
  implicit: true,
  implicitFirstChars: null,
  identify: () => false,
  resolve(source) {
    const plain = source.replaceAll('_', '')
    return /^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)(e[-+]?[0-9]+)?$/i.test(plain) ? Number(plain) : NOT_RESOLVED
  },
})
const KUBECTL = HERE.withTags(boolYaml11Tag, INT_OF_GO, FLOAT_OF_GO)

/** None when the text cannot be read so at all. */
function documentsAs(text: string, schema: Schema): readonly unknown[] {
  try {
    return loadAll(text, { schema })
  } catch {
    return []
  }
}

function differences(here: unknown, there: unknown, path: string, reader: string): YamlTrap[] {
  if (there === undefined) return []
  // A date stays the text that it is: kubectl's parser knows no time stamps where it does not expect one.
  if (Object.is(here, there) || there instanceof Date) return []
  if (Array.isArray(here) && Array.isArray(there))
    return here.flatMap((value, index) => differences(value, there[index], `${path}[${index}]`, reader))
  if (isRecord(here) && isRecord(there)) {
    return Object.keys(here).flatMap((key) => {
      const field = path === '' ? key : `${path}.${key}`
      if (Object.hasOwn(there, key)) return differences(here[key], there[key], field, reader)
      const what = /^[a-z]/i.test(key) ? 'a boolean' : 'another number'
      return [{ field, message: `${reader} reads the name "${key}" as ${what}: put it in quotes`, number: null }]
    })
  }
  const remedy = typeof here === 'number' ? 'write it as a plain decimal' : 'put it in quotes'
  return [
    {
      field: path,
      message: `${reader} reads this as ${JSON.stringify(there)}, not ${JSON.stringify(here)}: ${remedy}`,
      number: reader === 'kubectl' && typeof here === 'string' && typeof there === 'number' ? there : null,
    },
  ]
}
