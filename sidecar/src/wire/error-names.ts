/** What the log may say of a provider's error: the names in it, never its words, which may quote the request. */
import { isObject, parseObject } from '../core/message.ts'

export interface ErrorNames {
  readonly type?: string
  readonly code?: string
  readonly param?: string
  /** Parameters of the request that its words mention. */
  readonly mentions: readonly string[]
}

/** `fields`: the top-level fields of the request. */
export function errorNames(body: string, fields: ReadonlySet<string>): ErrorNames {
  const error = parseObject(body)?.['error']
  if (!isObject(error)) return { mentions: [] }
  const named = NAMED.flatMap((name) => {
    const value = error[name]
    return typeof value === 'string' && NAME.test(value) ? [[name, value] as const] : []
  })
  const words = new Set(typeof error['message'] === 'string' ? error['message'].split(/\W+/) : [])
  return { ...Object.fromEntries(named), mentions: [...fields, ...INNER_PARAMETERS].filter((name) => name !== 'model' && words.has(name)) }
}

const NAMED = ['type', 'code', 'param'] as const
const NAME = /^[\w.[\]-]{1,100}$/
/** Parameters that stand inside others, and are spoken of without them. */
const INNER_PARAMETERS = ['effort'] as const
