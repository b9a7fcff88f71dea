/** Where each field of a YAML file stands, so that a problem can be told with its line. */
import { EVENT_ID, getScalarValue, parseEvents } from 'js-yaml'

/** Lines (from 1) by field path (`spec.ladder[2].rung`); the document itself is the empty path. */
export type FieldLines = ReadonlyMap<string, number>

const DEPTH_MAX = 64

/** The lines of each document of a file, in order. Throws what the YAML parser throws. */
export function fieldLines(text: string): readonly FieldLines[] {
  const lineAt = lineFinder(text)
  const events = parseEvents(text, { maxDepth: DEPTH_MAX })
  const documents: Map<string, number>[] = []
  let at = 0
  const skipOrRead = (lines: Map<string, number>, path: string, ownLine: number | null): void => {
    const event = events[at++]
    if (event === undefined) return
    switch (event.type) {
      case EVENT_ID.SCALAR:
        // An empty item of a list has no place of its own: that of the list stands for it.
        if (ownLine === null && event.valueStart < 0) return
        lines.set(path, ownLine ?? lineAt(event.valueStart))
        return
      case EVENT_ID.SEQUENCE:
        lines.set(path, ownLine ?? lineAt(event.start))
        for (let index = 0; at < events.length && events[at]?.type !== EVENT_ID.POP; index++) skipOrRead(lines, `${path}[${index}]`, null)
        at += 1
        return
      case EVENT_ID.MAPPING:
        lines.set(path, ownLine ?? lineAt(event.start))
        while (at < events.length && events[at]?.type !== EVENT_ID.POP) {
          const key = events[at]
          if (key?.type !== EVENT_ID.SCALAR) {
            skipOrRead(new Map(), '', null)
            skipOrRead(new Map(), '', null)
            continue
          }
          at += 1
          const name = getScalarValue(text, key)
          skipOrRead(lines, path === '' ? name : `${path}.${name}`, lineAt(key.valueStart))
        }
        at += 1
        return
      default:
        lines.set(path, ownLine ?? 1)
    }
  }
  while (at < events.length) {
    const event = events[at++]
    if (event?.type !== EVENT_ID.DOCUMENT) continue
    const lines = new Map<string, number>()
    documents.push(lines)
    if (events[at]?.type !== EVENT_ID.POP && events[at]?.type !== EVENT_ID.DOCUMENT) skipOrRead(lines, '', null)
  }
  return documents
}

/** The line of a field, or of the nearest one above it that is there. */
export function lineOf(lines: FieldLines, field: string): number {
  let path = field
  while (path !== '') {
    const line = lines.get(path)
    if (line !== undefined) return line
    path = path.slice(0, Math.max(0, path.lastIndexOf('.'), path.lastIndexOf('[')))
  }
  return lines.get('') ?? 1
}

function lineFinder(text: string): (offset: number) => number {
  const starts = [0]
  for (let index = text.indexOf('\n'); index >= 0; index = text.indexOf('\n', index + 1)) starts.push(index + 1)
  return (offset) => {
    let low = 0
    let high = starts.length - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if ((starts[middle] ?? 0) <= offset) low = middle
      else high = middle - 1
    }
    return low + 1
  }
}
