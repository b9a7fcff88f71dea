/** A config as the text that a config map holds. Pure. */
import { readDelivered } from '@farebox/crds/sidecar-config.ts'
import type { SidecarConfig } from '@farebox/crds/sidecar-config.ts'
import * as z from 'zod'
import { canonicalJson, contentHash } from './canonical.ts'
import type { SharedTexts } from './canonical.ts'
import type { ConfigName } from './compile.ts'

/** `shared`: as `compile` gives it, so that the texts of many configs are made sooner; it changes none of them. */
export function configText(config: SidecarConfig, shared?: SharedTexts): string {
  return canonicalJson(config, shared)
}

/** Null: its hash is not of its content. Another version may have written it, with fields that are not known here. */
export function configNameOf(text: string): ConfigName | null {
  try {
    const { version, hash, ...content } = NamedSchema.parse(JSON.parse(text))
    return contentHash(content) === hash ? { version, hash } : null
  } catch {
    return null
  }
}

const NamedSchema = z.looseObject({ version: z.int(), hash: z.string() })

/**
 * Read as sidecars read it: one that a later version wrote, as before a rollback, keeps fields that are not known here, and so stays what its
 * hash is over. Null: it has values that are not known, or it is not the one that its hash says.
 */
export function configOfText(text: string): SidecarConfig | null {
  let read: unknown
  try {
    read = JSON.parse(text)
  } catch {
    return null
  }
  const { data } = readDelivered(read).result
  if (data === undefined) return null
  const { version: _version, hash, ...content } = data
  return contentHash(content) === hash ? data : null
}
