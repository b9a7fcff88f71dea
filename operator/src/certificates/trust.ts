/** Whether who trusts a bundle accepts what is served: asked before a replica calls itself ready. */
import { isIP } from 'node:net'
import type { KubeObject } from '../kube/kube.ts'
import { certificatesIn, readCertificate } from './pem.ts'

export type Trust = { readonly status: 'ok' } | { readonly status: 'refused'; readonly reason: string }

/** As a client that knows each of `names`. */
export function trusts(bundle: string, leaf: string, names: readonly string[], nowMs: number): Trust {
  const served = readCertificate(leaf)
  if (served === null) return refused('what is served is not a certificate')
  if (served.validFromDate.getTime() > nowMs) return refused(`the certificate is not valid before ${served.validFrom}`)
  if (served.validToDate.getTime() <= nowMs) return refused(`the certificate expired on ${served.validTo}`)
  const missing = names.find((name) => (isIP(name) === 0 ? served.checkHost(name) : served.checkIP(name)) === undefined)
  if (missing !== undefined) return refused(`the certificate is not for ${missing}`)
  const isIssued = certificatesIn(bundle).some((pem) => {
    const authority = readCertificate(pem)
    return (
      authority !== null && authority.validToDate.getTime() > nowMs && served.checkIssued(authority) && served.verify(authority.publicKey)
    )
  })
  return isIssued ? { status: 'ok' } : refused('no authority of the bundle has signed the certificate')
}

/** Of each webhook of a configuration, the bundle as PEM; null: none. */
export function caBundlesOf(configuration: KubeObject): readonly (string | null)[] {
  return webhooksOf(configuration).map(({ caBundle }) => caBundle)
}

export interface ConfiguredWebhook {
  readonly name: string
  readonly caBundle: string | null
}

export function webhooksOf(configuration: KubeObject): readonly ConfiguredWebhook[] {
  const { webhooks } = configuration
  if (!Array.isArray(webhooks)) return []
  return webhooks.flatMap((webhook: unknown) => {
    const name = fieldOf(webhook, 'name')
    const caBundle = fieldOf(fieldOf(webhook, 'clientConfig'), 'caBundle')
    if (typeof name !== 'string') return []
    return [{ name, caBundle: typeof caBundle === 'string' && caBundle !== '' ? Buffer.from(caBundle, 'base64').toString('utf8') : null }]
  })
}

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null ? Object.entries(value).find(([key]) => key === field)?.[1] : undefined
}

function refused(reason: string): Trust {
  return { status: 'refused', reason }
}
