/** `farebox run`: an operator for a laptop, until it is told to stop. */
import { formatAddress } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { Option } from 'commander'
import type { Command } from 'commander'
import { basePathOf } from '../core/sdk-variables.ts'
import { startLaptop } from '../laptop/laptop.ts'
import type { Laptop } from '../laptop/laptop.ts'
import type { SidecarStatus } from '@farebox/crds/sidecar-status.ts'
import { onLostOutput } from './lost-output.ts'
import { addressFlag, DEFAULT_ADMIN, DEFAULT_LISTEN, givenOnce, upstreamFlag } from './options.ts'
import { objectLines, statusYaml, trafficLines } from './status-report.ts'
import { widthOfStream } from './table.ts'
import { hasKeys, listenToKeys } from './terminal-keys.ts'

const DATA_USUAL = '.farebox'
/** What the sidecar takes from the environment, and no option says. */
const ENVIRONMENT = `Environment:
  FAREBOX_LOG_LEVEL          what sidecar.log has: debug, info, warn, error or
                             silent (default: info)
  FAREBOX_STORE              as --store
  FAREBOX_STORE_FILE         in its place: file with that URL, and its password
  FAREBOX_STORE_CA           file with certificates (PEM) by which the store is
                             trusted; absent: those of the system
  FAREBOX_NAMESPACE          whose books they are in the store of FAREBOX_STORE
                             or FAREBOX_STORE_FILE (default: the budget's)
  FAREBOX_IDENTITY_KEY_FILE  32 bytes in base64 by which ids are hashed, for a
                             store that has no such key yet
  FAREBOX_LEDGER_DAYS        days that ledger entries are kept, 70 or more;
                             absent: for good
  FAREBOX_CREDENTIALS        folder with the key of each upstream that has a
                             secretRef, a file for each, by its name
  FAREBOX_CLAIM_KEYS         as --claim-keys
  FAREBOX_DRAIN              milliseconds that calls under way have to end,
                             at most 30000 here (default: 25000)
  FAREBOX_BODY_ROOM          bytes of request and answer bodies that are held at
                             a time; absent: a share of the memory`

interface RunOptions {
  readonly file: string
  readonly listen: Address
  readonly admin: Address
  readonly data: string
  readonly store?: string
  readonly claimKeys?: string
  readonly budget?: string
  readonly upstream?: ReadonlyMap<string, string>
}

export function addRunCommand(program: Command): void {
  program
    .command('run')
    .summary('govern model calls on this machine by a folder of manifests')
    .description(
      'Compiles the manifests of a folder, runs a sidecar with the result, and follows every change of the folder within a second.\n' +
        'A change that is wrong is told by file, line and field, and changes nothing.',
    )
    .requiredOption('-f, --file <dir>', 'folder (or file) of PricingTiers, a ConversationBudget and PriceBooks', givenOnce)
    .addOption(addressFlag('--listen <host:port>', 'where apps send their model calls', DEFAULT_LISTEN))
    .addOption(addressFlag('--admin <host:port>', 'metrics and health', DEFAULT_ADMIN))
    .addOption(new Option('--data <dir>', 'where the books are kept').env('FAREBOX_DATA').default(DATA_USUAL))
    .option(
      '--store <url>',
      'Redis or Valkey that several runs share, redis://HOST:PORT; absent: FAREBOX_STORE, or else the books in --data',
    )
    .option('--claim-keys <dir>', 'keys by which claims of a tier are signed, a file for each, by the id of the key')
    .option(
      '--budget <namespace/name>',
      'which ConversationBudget governs, where the folder holds several; limits of others on all of its pods are added (lint and explain say what a cluster would do)',
    )
    .addOption(upstreamFlag('send an upstream elsewhere; may be repeated'))
    .addHelpText(
      'after',
      '\nStatus of each object, as it would be in a cluster: press s and Enter, or\nsend SIGUSR2; it is also shown at the end.\n' +
        'Ctrl+C lets calls under way end first; a second one does not.\n\n' +
        ENVIRONMENT,
    )
    .action(run)
}

async function run(options: RunOptions): Promise<void> {
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  // Signals that come while it starts are not lost: the start is given up, or it stops as soon as it is up.
  const stopped = untilStopped()
  const givingUp = new AbortController()
  void stopped.first.then(() => givingUp.abort())
  const laptop = await startLaptop({
    folder: options.file,
    listen: options.listen,
    admin: options.admin,
    dataDir: options.data === '' ? DATA_USUAL : options.data,
    storeUrl: options.store ?? null,
    claimKeysDir: options.claimKeys ?? null,
    upstreams: options.upstream ?? new Map(),
    budget: options.budget ?? null,
    givenUp: givingUp.signal,
    say,
  }).catch((error: unknown) => {
    if (givingUp.signal.aborted) return null
    throw error
  })
  if (laptop === null) return say('stopped')
  const { namespace, budget, tiers, hash, upstreams } = laptop.config()
  say(`budget ${namespace}/${budget}: tiers ${tiers.allowed.join(', ')}; config ${hash} in force`)
  for (const upstream of upstreams) say(`http://${formatAddress(options.listen)}${basePathOf(upstream)} -> ${upstream.baseUrl}`)
  say(`metrics and health at http://${formatAddress(options.admin)}; log in ${laptop.logFile}`)
  say(hasKeys() ? 'ready: s and Enter shows status, Ctrl+C stops' : 'ready: SIGUSR2 shows status, SIGTERM stops')
  await serveUntilStopped(laptop, stopped, say)
}

/** Shows status on demand, and at the end. */
export async function serveUntilStopped(laptop: Laptop, stopped: StopSignals, say: (line: string) => void): Promise<void> {
  const show = (): void => void trafficOf(laptop).then((traffic) => say(report(laptop, traffic)))
  process.on('SIGUSR2', show)
  const keys = listenToKeys((line) => {
    if (line.trim().toLowerCase() === 's') show()
  })
  await stopped.first
  keys.stop()
  const traffic = await trafficOf(laptop)
  const open = traffic?.callsInFlight ?? 0
  if (open > 0) say(`stopping: ${open === 1 ? 'a call' : `${open} calls`} under way may end; Ctrl+C again does not wait`)
  void stopped.second.then(() => laptop.kill())
  await laptop.stop()
  process.off('SIGUSR2', show)
  say(report(laptop, traffic))
  if (open > 0) say(`this was said before the ${open === 1 ? 'call' : 'calls'} under way ended: the books in the data folder have the rest`)
  say('stopped')
}

export interface StopSignals {
  readonly first: Promise<void>
  readonly second: Promise<void>
}

/**
 * SIGINT, SIGTERM, and SIGHUP of a terminal that is closed; counted from now on. Lost output asks for the first too, and never for the
 * second: Ctrl+C ends the reader of a pipe as well, and what is said of the stop is then lost.
 */
export function untilStopped(): StopSignals {
  const first = Promise.withResolvers<void>()
  const second = Promise.withResolvers<void>()
  let count = 0
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      count += 1
      if (count === 1) first.resolve()
      else second.resolve()
    })
  }
  onLostOutput(() => first.resolve())
  return { first: first.promise, second: second.promise }
}

/** Null when the sidecar does not answer. */
async function trafficOf(laptop: Laptop): Promise<SidecarStatus | null> {
  return laptop.client.status().catch(() => null)
}

function report(laptop: Laptop, traffic: SidecarStatus | null): string {
  const statuses = laptop.statuses(traffic)
  const width = widthOfStream(process.stdout)
  const calls = traffic === null ? ['the sidecar does not answer'] : trafficLines(traffic, width)
  return `${statusYaml(statuses)}---\n${[...objectLines(statuses, laptop.currencies(), width), '', ...calls].join('\n')}`
}
