/**
 * Reads a form (`multipart/form-data`, RFC 7578) as far as money goes: names, short values, sizes of files. It goes on as it came, byte
 * for byte; what two readers could read in two ways is refused.
 */

export interface Form {
  /** Text fields by name; of names that end in `[]` the last. */
  readonly fields: ReadonlyMap<string, string>
  readonly files: readonly FormFile[]
  /** All text fields in order, those of one name and long ones included. */
  readonly texts: readonly FormText[]
}

export interface FormFile {
  readonly name: string
  /** A view of the body. */
  readonly bytes: Buffer
}
export type FormText = FormFile

export type ReadForm = { readonly status: 'ok'; readonly form: Form } | { readonly status: 'invalid'; readonly message: string }

const PARTS_MAX = 256
const HEADER_BYTES_MAX = 4_096
/** A field longer than this is not kept as text; no parameter is. */
const FIELD_BYTES_MAX = 64 * 1024
/** RFC 2046, section 5.1.1: 1 to 70 characters, no space at the end. */
const BOUNDARY = /;\s*boundary=(?:"([\w'()+,\-./:=? ]{0,69}[\w'()+,\-./:=?])"|([\w'()+\-.]{1,70}))\s*(?:;|$)/i
/** All that a content-type of a form may say of boundaries, and of a second type beside it. */
const BOUNDARIES = /boundary[^=;,]*=|,\s*multipart\//gi
const DISPOSITION = /^content-disposition:[ \t]*form-data[ \t]*(;.*)$/i
/** The parameters that clients write, in the one way in which everybody reads them. A file has a name: an empty one is a field to some. */
const PARAMETERS = /^(?:;[ \t]*(?:name="[^"\\]*"|filename="(?:[^"\\]|\\.)+"|filename\*=[^\s;"]+)[ \t]*)+$/i
const NAME = /;[ \t]*name="([^"\\]{1,128})"/gi
const FILE_NAME = /;[ \t]*filename\*?=/i

export function isForm(contentType: string): boolean {
  return /^\s*multipart\/form-data\s*(;|$)/i.test(contentType)
}

export function readForm(body: Buffer, contentType: string): ReadForm {
  const found = BOUNDARY.exec(contentType)
  const boundary = found?.[1] ?? found?.[2]
  if (boundary === undefined || contentType.match(BOUNDARIES)?.length !== 1)
    return invalid('the content-type of a form must name a boundary, and one only')
  const delimiter = Buffer.from(`--${boundary}`, 'latin1')
  const next = Buffer.from(`\r\n--${boundary}`, 'latin1')
  if (body.indexOf(delimiter) !== 0) return invalid('the form must begin with its boundary')
  const fields = new Map<string, string>()
  const files: FormFile[] = []
  const texts: FormText[] = []
  if (hasOtherDelimiters(body, delimiter)) return invalid('a boundary must stand after CRLF')
  let at = delimiter.length
  for (let count = 0; !isEnd(body, at); count += 1) {
    if (count === PARTS_MAX) return invalid(`the form must have at most ${PARTS_MAX} parts`)
    if (body[at] !== CR || body[at + 1] !== LF) return invalid('a boundary must end its line')
    // A part without headers, whose empty line follows at once, has no name: it is refused below.
    const headersEnd = body.indexOf(EMPTY_LINE, at)
    if (headersEnd < 0 || headersEnd - at > HEADER_BYTES_MAX) return invalid('the headers of a part must end, and be short')
    const headers = body.toString('utf8', at + 2, Math.max(at + 2, headersEnd)).split('\r\n')
    const start = headersEnd + EMPTY_LINE.length
    const end = body.indexOf(next, start)
    if (end < 0) return invalid('the form must end with its boundary')
    const part = partOf(headers)
    if (part === null) return invalid('each part must have a plain content-disposition with a name')
    const bytes = body.subarray(start, end)
    if (part.isFile) files.push({ name: part.name, bytes })
    else {
      if (fields.has(part.name) && !part.name.endsWith('[]')) return invalid(`the field "${part.name}" must be given once`)
      texts.push({ name: part.name, bytes })
      fields.set(part.name, bytes.length <= FIELD_BYTES_MAX ? bytes.toString('utf8') : '')
    }
    at = end + next.length
  }
  // What comes after the end is a part to who overlooks it.
  if (!isBlank(body.subarray(at + 2))) return invalid('the form must end with its boundary')
  return { status: 'ok', form: { fields, files, texts } }
}

const CR = 0x0d
const LF = 0x0a
const DASH = 0x2d
const SPACE = 0x20
const EMPTY_LINE = Buffer.from('\r\n\r\n')

function isEnd(body: Buffer, at: number): boolean {
  return body[at] === DASH && body[at + 1] === DASH
}

/** Whether the boundary stands where a line ends otherwise than it should: some readers see one there. */
function hasOtherDelimiters(body: Buffer, delimiter: Buffer): boolean {
  for (let at = body.indexOf(delimiter, 1); at >= 0; at = body.indexOf(delimiter, at + 1)) {
    const before = body[at - 1]
    if ((before === LF && body[at - 2] !== CR) || before === CR) return true
  }
  return false
}

function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === CR || byte === LF || byte === SPACE)
}

/** Null for a part that two readers could read in two ways. */
function partOf(headers: readonly string[]): { readonly name: string; readonly isFile: boolean } | null {
  let disposition: string | null = null
  for (const header of headers) {
    // Nobody sends these any more (RFC 7578, section 4.7), and who reads them sees another file.
    if (/^content-transfer-encoding:/i.test(header) || /^\s|[\r\n]|^content-disposition\s/i.test(header)) return null
    const found = DISPOSITION.exec(header)?.[1]
    if (found === undefined) continue
    if (disposition !== null) return null
    disposition = found
  }
  if (disposition === null || !PARAMETERS.test(disposition)) return null
  const [named, ...more] = disposition.matchAll(NAME)
  const name = named?.[1]
  if (name === undefined || more.length > 0) return null
  return { name, isFile: FILE_NAME.test(disposition) }
}

function invalid(message: string): ReadForm {
  return { status: 'invalid', message }
}
