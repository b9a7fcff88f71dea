/** Changes of top-level fields of a JSON object, made in its bytes: everything that is not changed stays as it was written. */
import type { Field } from './json-scan.ts'

/** Where the top-level fields of an object stand. */
export interface Layout {
  readonly fields: readonly Pick<Field, 'name' | 'keyStart' | 'start' | 'end'>[]
  /** After the opening brace. */
  readonly bodyStart: number
}

/** One object and the changes to be made to it. Names are those that the fields will have, renames included. */
export class Splice {
  readonly #bytes: Buffer
  readonly #layout: Layout
  readonly #fields: { name: string; readonly index: number; value: Buffer | null; renamed: boolean }[]
  readonly #added: { name: string; readonly value: Buffer }[] = []
  #dropped = false

  constructor(bytes: Buffer, layout: Layout) {
    this.#bytes = bytes
    this.#layout = layout
    this.#fields = layout.fields.map((field, index) => ({ name: field.name, index, value: null, renamed: false }))
  }

  has(name: string): boolean {
    return this.#fields.some((field) => field.name === name) || this.#added.some((field) => field.name === name)
  }

  /** The value as it is written now; null when there is no such field. */
  text(name: string): string | null {
    const added = this.#added.find((field) => field.name === name)
    if (added !== undefined) return added.value.toString('utf8')
    const field = this.#fields.find((known) => known.name === name)
    if (field === undefined) return null
    const { start, end } = this.#rangeOf(field.index)
    return field.value === null ? this.#bytes.toString('utf8', start, end) : field.value.toString('utf8')
  }

  /** Replaces the value in place, or adds the field at the end. The same bytes again are no change. */
  set(name: string, value: Buffer | string): void {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value
    const field = this.#fields.find((known) => known.name === name)
    if (field === undefined) {
      const added = this.#added.findIndex((known) => known.name === name)
      this.#added.splice(added < 0 ? this.#added.length : added, 1, { name, value: bytes })
      return
    }
    const { start, end } = this.#rangeOf(field.index)
    field.value = bytes.equals(this.#bytes.subarray(start, end)) ? null : bytes
  }

  drop(name: string): void {
    const added = this.#added.findIndex((known) => known.name === name)
    if (added >= 0) this.#added.splice(added, 1)
    const at = this.#fields.findIndex((field) => field.name === name)
    if (at < 0) return
    this.#fields.splice(at, 1)
    this.#dropped = true
  }

  /** Gives a field another name. Where a field has that name already, the renamed one is dropped. */
  rename(from: string, to: string): void {
    if (from === to || !this.has(from)) return
    if (this.has(to)) return this.drop(from)
    const added = this.#added.find((known) => known.name === from)
    if (added !== undefined) added.name = to
    const field = this.#fields.find((known) => known.name === from)
    if (field === undefined) return
    field.name = to
    field.renamed = to !== this.#rangeOf(field.index).name
  }

  /** Whether anything will be other than it was written. */
  get isChanged(): boolean {
    return this.#dropped || this.#added.length > 0 || this.#fields.some((field) => field.value !== null || field.renamed)
  }

  /** The object with its changes; the same buffer when there are none. */
  bytes(): Buffer {
    if (!this.isChanged) return this.#bytes
    const out: Buffer[] = []
    let copied = 0
    const copyTo = (end: number): void => {
      if (end > copied) out.push(this.#bytes.subarray(copied, end))
      copied = Math.max(copied, end)
    }
    let lastEnd = this.#layout.bodyStart
    let kept = 0
    let expected = 0
    for (const field of this.#fields) {
      const range = this.#rangeOf(field.index)
      if (field.index !== expected) {
        // What was dropped before this field goes, with its comma: the space around what stays is kept where it can be.
        if (kept > 0) {
          copyTo(lastEnd)
          out.push(COMMA)
        } else copyTo(this.#layout.bodyStart)
        copied = range.keyStart
      }
      if (field.renamed) {
        copyTo(range.keyStart)
        out.push(Buffer.from(`${JSON.stringify(field.name)}:`))
        copied = range.start
      }
      if (field.value !== null) {
        copyTo(range.start)
        out.push(field.value)
        copied = range.end
      }
      copyTo(range.end)
      lastEnd = range.end
      kept += 1
      expected = field.index + 1
    }
    copyTo(lastEnd)
    if (expected < this.#layout.fields.length) copied = this.#layout.fields.at(-1)?.end ?? copied
    for (const { name, value } of this.#added) {
      out.push(Buffer.from(`${kept > 0 ? ',' : ''}${JSON.stringify(name)}:`), value)
      kept += 1
    }
    copyTo(this.#bytes.length)
    return Buffer.concat(out)
  }

  #rangeOf(index: number): Layout['fields'][number] {
    const field = this.#layout.fields[index]
    if (field === undefined) throw new RangeError(`no field ${index}`)
    return field
  }
}

const COMMA = Buffer.from(',')
