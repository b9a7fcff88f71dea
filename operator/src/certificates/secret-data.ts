/** The data of a Secret, decoded. What is not text in base64 is left out. */
import type { KubeObject } from '../kube/kube.ts'

export function secretData({ data }: KubeObject): Readonly<Record<string, string>> {
  if (typeof data !== 'object' || data === null) return {}
  return Object.fromEntries(
    Object.entries(data).flatMap(([key, value]: [string, unknown]) =>
      typeof value === 'string' ? [[key, Buffer.from(value, 'base64').toString('utf8')]] : [],
    ),
  )
}
