/** What delivery tells whoever keeps its metrics and its log. */
export const DELIVERY_COUNTS = [
  'streamOpened',
  'streamClosed',
  /** Turned away: too many at once, or within a second. */
  'streamBusy',
  /** Turned away: this pod asks too much. */
  'podBusy',
  /** Closed at once: there are too many connections, in all or from this address. */
  'connectionRefused',
  /** A pod came again while its former stream was there. */
  'streamReplaced',
  'tokenRefused',
  'protocolRefused',
  'configPushed',
  'currentSent',
  'releasedSent',
  /** A sidecar cannot read the config that it should have. */
  'schemaUnsupported',
  /** A stream was cut since its reader took nothing for too long. */
  'slowReader',
  'reportTaken',
  'reportForwarded',
  'reportInvalid',
  'reportTooLarge',
  'forwardedTaken',
  'forwardedRefused',
  'forwardFailed',
  'forwardDropped',
  'jwksFetched',
  'jwksFailed',
] as const
export type DeliveryCount = (typeof DELIVERY_COUNTS)[number]

export interface DeliveryEvents {
  /** `by` is 1 where it is not said. */
  count(what: DeliveryCount, by?: number): void
  log(level: 'info' | 'warn' | 'error', message: string, fields?: object): void
}
