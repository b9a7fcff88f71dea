/** An address to listen at, as both programs read it from their environment: `HOST:PORT`. */
import * as z from 'zod'

export interface Address {
  /** Without brackets. Empty: all addresses, IPv6 where there is any and IPv4. */
  readonly host: string
  /** 0 is any that is free. */
  readonly port: number
}

const ADDRESS = /^(?:\[([0-9A-Fa-f:.]+)\]|([^\s:[\]]*)):(\d{1,5})$/

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
