/** What goes wrong, when, and for how long: drawn from a seed before anything starts, so that a seed plays it again. Pure. */
import type { Random } from '../provider/random.ts'
import { randomOf } from '../provider/random.ts'

/** Of the network and the store: one at a time, so that each is known to be over when the next begins. `lane` null: all of them. */
export type StoreFault =
  | { readonly kind: 'latency'; readonly lane: number | null; readonly delayMs: number; readonly forMs: number }
  | { readonly kind: 'reset'; readonly lane: number | null; readonly forMs: 0 }
  | { readonly kind: 'stalled'; readonly lane: number | null; readonly forMs: number }
  | { readonly kind: 'deaf'; readonly lane: number | null; readonly forMs: number }
  | { readonly kind: 'silent'; readonly lane: number | null; readonly forMs: number }
  | { readonly kind: 'refused'; readonly lane: number | null; readonly forMs: number }
  | { readonly kind: 'freeze'; readonly forMs: number }
  | { readonly kind: 'crash'; readonly forMs: number }
  | { readonly kind: 'losePower'; readonly forMs: number }
  | { readonly kind: 'failOver'; readonly behindMs: number; readonly forMs: number }

/** Of a sidecar, whatever the store does meanwhile. */
export type SidecarFault =
  | { readonly kind: 'kill'; readonly sidecar: number; readonly forMs: number }
  | { readonly kind: 'clock'; readonly sidecar: number; readonly byMs: number; readonly forMs: number }

/** From the beginning of the faults on. */
export type Planned<Fault> = Fault & { readonly atMs: number }

export interface Plan {
  readonly store: readonly Planned<StoreFault>[]
  readonly sidecars: readonly Planned<SidecarFault>[]
}

export interface PlanOptions {
  readonly seed: number
  readonly sidecars: number
  readonly forMs: number
}

export const STORE_FAULTS = [
  'failOver',
  'silent',
  'freeze',
  'deaf',
  'losePower',
  'stalled',
  'refused',
  'crash',
  'latency',
  'reset',
] as const satisfies readonly StoreFault['kind'][]
export const SIDECAR_FAULTS = ['kill', 'clock', 'kill'] as const satisfies readonly SidecarFault['kind'][]

/** Between two faults all is well for so long; more than a sidecar needs to find the store again and tell it what it missed. */
const REST_MS = { min: 1_500, max: 4_000 }
/** Longer than a step waits for its answer, mostly; and short enough that many faults fit. */
const STORE_FAULT_MS = { min: 400, max: 3_500 }
const DELAY_MS = { min: 20, max: 250 }
/** Far below the ten seconds that sidecars can tell again. */
const BEHIND_MS = { min: 0, max: 1_500 }
const SIDECAR_REST_MS = { min: 3_000, max: 8_000 }
const DOWN_MS = { min: 0, max: 3_000 }
const CLOCK_MS = { min: 1_000, max: 6_000 }
const HOUR_MS = 3_600_000
/** Nobody is killed at the very end: holds of the killed expire long after, and a run waits for them. */
const KILLS_UNTIL_PERCENT = 80

export function planOf({ seed, sidecars, forMs }: PlanOptions): Plan {
  const random = randomOf(seed)
  return {
    store: drawn(random, forMs, REST_MS, dealer(random, STORE_FAULTS), (kind) => storeFault(random, kind, sidecars)),
    sidecars: drawn(random, (forMs * KILLS_UNTIL_PERCENT) / 100, SIDECAR_REST_MS, dealer(random, SIDECAR_FAULTS), (kind): SidecarFault =>
      sidecarFault(random, kind, sidecars),
    ),
  }
}

/** As a line of the log that a failure prints. */
export function describeFault({ kind, atMs: _atMs, ...parts }: Planned<StoreFault | SidecarFault>): string {
  const told = Object.entries(parts).map(([name, value]) => `${name} ${value === null ? 'all' : value}`)
  return [kind, ...told].join(', ')
}

interface Range {
  readonly min: number
  readonly max: number
}

function storeFault(random: Random, kind: StoreFault['kind'], lanes: number): StoreFault {
  const forMs = within(random, STORE_FAULT_MS)
  const lane = random.below(2) === 0 ? random.below(lanes) : null
  switch (kind) {
    case 'latency':
      return { kind, lane, delayMs: within(random, DELAY_MS), forMs }
    case 'reset':
      return { kind, lane, forMs: 0 }
    case 'stalled':
    case 'deaf':
    case 'silent':
    case 'refused':
      return { kind, lane, forMs }
    case 'freeze':
    case 'crash':
    case 'losePower':
      return { kind, forMs }
    case 'failOver':
      return { kind, behindMs: within(random, BEHIND_MS), forMs }
  }
}

function sidecarFault(random: Random, kind: SidecarFault['kind'], sidecars: number): SidecarFault {
  const sidecar = random.below(sidecars)
  if (kind === 'kill') return { kind, sidecar, forMs: within(random, DOWN_MS) }
  return { kind, sidecar, byMs: random.below(2) === 0 ? HOUR_MS : -HOUR_MS, forMs: within(random, CLOCK_MS) }
}

/** One after the other, with a rest before each; none ends after `endMs`. */
function drawn<Kind, Fault extends { readonly forMs: number }>(
  random: Random,
  endMs: number,
  rest: Range,
  deal: () => Kind,
  faultOf: (kind: Kind) => Fault,
): Planned<Fault>[] {
  const faults: Planned<Fault>[] = []
  for (let atMs = within(random, rest); ;) {
    const fault = faultOf(deal())
    if (atMs + fault.forMs > endMs) return faults
    faults.push({ ...fault, atMs })
    atMs += fault.forMs + within(random, rest)
  }
}

/** Every kind once before any comes again. */
function dealer<Kind>(random: Random, kinds: readonly Kind[]): () => Kind {
  let deck: Kind[] = []
  return () => {
    if (deck.length === 0) deck = [...kinds]
    const [card] = deck.splice(random.below(deck.length), 1)
    if (card === undefined) throw new RangeError('there is nothing to deal')
    return card
  }
}

function within(random: Random, { min, max }: Range): number {
  return min + random.below(max - min + 1)
}
