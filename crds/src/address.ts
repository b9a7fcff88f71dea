/** An address to listen at, as both programs read it from their environment, and as it is written: `HOST:PORT`. */
import * as z from 'zod'

export interface Address {
  /** Without brackets. Empty: all addresses, IPv6 where there is any and IPv4. */
  readonly host: string
  /** 0 is any that is free. */
  readonly port: number
}

const ADDRESS = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:[\]]*)):(\d{1,5})$/

/** As it stands in a URL: an IPv6 address has brackets there. */
export function formatAddress({ host, port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** `port`: the one that the message shows. */
export function addressSchema(port: number): z.ZodType<Address, string> {
  return z
    .string()
    .regex(ADDRESS, `must be HOST:PORT, such as 127.0.0.1:${port} or [::1]:${port}; or :${port}, which is all addresses`)
    .transform((text): Address => {
      const [, ipv6, host = '', number] = ADDRESS.exec(text) ?? []
      return { host: ipv6 ?? host, port: Number(number) }
    })
}
