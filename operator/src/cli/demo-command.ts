/** `farebox demo`: recorded conversations through the example plans, on a stand-in for the provider or the real one. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { formatAddress } from '@farebox/crds/address.ts'
import type { Address } from '@farebox/crds/address.ts'
import { parseUsd } from '@farebox/crds/usd.ts'
import type { Command } from 'commander'
import { freeAddresses, whyTaken } from '../laptop/addresses.ts'
import { playDemo, tierSummaries } from '../laptop/demo.ts'
import type { Watched } from '../laptop/demo.ts'
import { startLaptop } from '../laptop/laptop.ts'
import type { Laptop } from '../laptop/laptop.ts'
import { loadManifests } from '../laptop/loaded-manifests.ts'
import { readManifestFolder } from '../laptop/manifest-folder.ts'
import { startProviderProcess } from '../laptop/provider-process.ts'
import type { ProviderProcess } from '../laptop/provider-process.ts'
import { defaultRecordings, pickRecordings } from '../laptop/recordings.ts'
import type { RecordedConversation } from '../laptop/records.ts'
import { startStoreProcess } from '../laptop/store-process.ts'
import type { StoreProcess } from '../laptop/store-process.ts'
import { isSound, summaryLines } from './demo-report.ts'
import type { LiveRow } from './live-table.ts'
import { LiveTable } from './live-table.ts'
import { roundedUsd } from './money.ts'
import { countOption, DEFAULT_ADMIN, DEFAULT_LISTEN, delayOption, replicasOption, upstreamFlag } from './options.ts'
import { serveUntilStopped, untilStopped } from './run-command.ts'
import { painter, widthOfStream, wrap } from './table.ts'
import { hasKeys } from './terminal-keys.ts'

const EXAMPLE = fileURLToPath(new URL('../../../examples/support-desk', import.meta.url))
/** About forty seconds. */
const CONVERSATIONS = 120
/** Recordings are played through the real `openai` client. */
const UPSTREAM = 'openai'
/** On the real thing, which costs real money. */
const CONVERSATIONS_UPSTREAM = 6
const CONCURRENCY = 6
const DELAY_MS = 150

interface Options {
  readonly serve?: true
  readonly upstream?: ReadonlyMap<string, string>
  readonly conversations: string
  readonly limit?: number
  readonly concurrency: number
  readonly delay: number
  readonly replicas: number
}

export function addDemoCommand(program: Command): void {
  program
    .command('demo')
    .summary('play recorded conversations through three priced plans')
    .description(
      'Starts a stand-in for the model provider and a sidecar under examples/support-desk, plays recorded conversations through them, several at\n' +
        "once, and sets the books against the provider's own bill.",
    )
    .option('--serve', 'stay up afterwards')
    .addOption(upstreamFlag('the real thing: openai=https://api.openai.com/v1, with OPENAI_API_KEY'))
    .option('--conversations <path>', 'file or folder of conversations*.ndjson[.gz]', defaultRecordings())
    .option(
      '--limit <n>',
      `at most this many conversations (default: ${CONVERSATIONS}; ${CONVERSATIONS_UPSTREAM} with --upstream)`,
      countOption,
    )
    .option('--concurrency <n>', 'conversations at the same time', countOption, CONCURRENCY)
    .option('--delay <ms>', 'how long the stand-in thinks before each answer', delayOption, DELAY_MS)
    .option('--replicas <n>', 'so many sidecars on one Valkey or Redis; each turn of a conversation goes to another', replicasOption, 1)
    .addHelpText(
      'after',
      '\nEnds with 1 when a conversation failed or was billed more than its budget.\nNO_COLOR in the environment leaves out colours.',
    )
    .action(demo)
}

async function demo(options: Options): Promise<void> {
  const say = (line: string): void => void process.stdout.write(`${line}\n`)
  const stopped = untilStopped()
  const elsewhere = options.upstream ?? new Map<string, string>()
  const other = [...elsewhere.keys()].find((name) => name !== UPSTREAM)
  if (other !== undefined) throw new Error(`--upstream ${other}: must be ${UPSTREAM}, the only one that the demo talks to`)
  const real = elsewhere.size > 0
  // Its books are its own, whatever store this terminal is set up for.
  for (const name of ['FAREBOX_STORE', 'FAREBOX_STORE_FILE', 'FAREBOX_NAMESPACE']) delete process.env[name]
  const apiKey = process.env['OPENAI_API_KEY'] ?? ''
  if (real && apiKey === '') throw new Error('--upstream: OPENAI_API_KEY must hold the key of the provider')
  const limit = options.limit ?? (real ? CONVERSATIONS_UPSTREAM : CONVERSATIONS)
  const conversations = await pickRecordings(options.conversations, limit)
  const dataDir = mkdtempSync(join(tmpdir(), 'farebox-demo-'))
  let provider: ProviderProcess | null = null
  let store: StoreProcess | null = null
  const laptops: Laptop[] = []
  try {
    provider = real ? null : await startProviderProcess([options.conversations])
    const upstreams = provider === null ? elsewhere : new Map([[UPSTREAM, provider.baseUrl]])
    store = options.replicas > 1 ? await startStoreProcess(say) : null
    const [listen, admin] = await addresses(say)
    const start = async (place: readonly [Address, Address], replica: number): Promise<Laptop> => {
      const own = join(dataDir, `replica-${replica}`)
      const laptop = await startLaptop({
        folder: EXAMPLE,
        listen: place[0],
        admin: place[1],
        dataDir: own,
        upstreams,
        storeUrl: store?.url ?? null,
        claimKeysDir: null,
        budget: null,
        say,
      })
      laptops.push(laptop)
      return laptop
    }
    const laptop = await start([listen, admin], 1)
    const listens = [listen]
    for (let replica = 2; replica <= options.replicas; replica += 1) {
      const [further, its] = await freeAddresses(2)
      if (further === undefined || its === undefined) throw new Error('no free ports on this machine')
      await start([further, its], replica)
      listens.push(further)
    }
    const bases = listens.map((address) => `http://${formatAddress(address)}`)
    const front = provider === null ? elsewhere.get(UPSTREAM) : `a stand-in for the provider at ${provider.baseUrl}`
    say(
      store === null
        ? `sidecar at ${bases[0]}, in front of ${front}`
        : `${bases.length} sidecars at ${bases.join(', ')}, in front of ${front}`,
    )
    if (store !== null)
      say(`one ${store.program} at ${store.url} holds the books of all; each turn of a conversation goes to another sidecar`)
    for (const line of wrap(introduction(laptop, conversations, real), widthOfStream(process.stdout))) say(line)
    say('')
    const all: [Laptop, ...Laptop[]] = [laptop, ...laptops.slice(1)]
    await play(options, { laptops: all, provider, conversations, bases, apiKey: apiKey || 'demo', stopped: stopped.first })
    if (options.serve === true) {
      say('')
      for (const line of invitation(listen, admin, provider === null)) say(line)
      laptops.shift() // which is stopped by whoever stops this
      await serveUntilStopped(laptop, stopped, say)
    }
  } finally {
    await Promise.all(laptops.map((laptop) => laptop.stop()))
    await store?.stop()
    await provider?.stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}

interface Stage {
  readonly laptops: readonly [Laptop, ...Laptop[]]
  readonly provider: ProviderProcess | null
  readonly conversations: readonly RecordedConversation[]
  /** Of each sidecar. */
  readonly bases: readonly string[]
  readonly apiKey: string
  readonly stopped: Promise<void>
}

async function play(options: Options, { laptops, provider, conversations, bases, apiKey, stopped }: Stage): Promise<void> {
  const paint = painter(process.stdout)
  const table = new LiveTable(process.stdout, paint)
  const stopping = new AbortController()
  void stopped.then(() => stopping.abort())
  const result = await playDemo({
    laptops,
    conversations,
    concurrency: options.concurrency,
    apiKey,
    provider,
    delayMs: options.delay,
    baseUrls: bases.map((base) => `${base}/openai/v1`),
    signal: stopping.signal,
    onProgress: (watched) => table.update(watched.map(liveRow), paint('dim', progressLine(watched, conversations.length))),
  })
  const manifests = loadManifests(await readManifestFolder(EXAMPLE), { nowMs: Date.now() })
  const tiers = manifests.status === 'loaded' ? manifests.loaded.manifests.snapshot.tiers : []
  process.stdout.write(`\n${summaryLines(result, tierSummaries(tiers, result.played), paint, widthOfStream(process.stdout)).join('\n')}\n`)
  if (!isSound(result)) process.exitCode = 1
  if (stopping.signal.aborted) process.exitCode = 130
}

/** The usual ones where they are free. */
async function addresses(say: (line: string) => void): Promise<readonly [listen: Address, admin: Address]> {
  const taken = (await whyTaken(DEFAULT_LISTEN)) ?? (await whyTaken(DEFAULT_ADMIN))
  if (taken === null) return [DEFAULT_LISTEN, DEFAULT_ADMIN]
  const [listen, admin] = await freeAddresses(2)
  if (listen === undefined || admin === undefined) throw new Error('no free ports on this machine')
  say(`${taken}: this uses ${formatAddress(listen)} and ${formatAddress(admin)} instead`)
  return [listen, admin]
}

function introduction(laptop: Laptop, conversations: readonly RecordedConversation[], real: boolean): string {
  const { contracts, tiers } = laptop.config()
  const caps = tiers.allowed.map((tier) => ({ tier, cap: parseUsd(contracts[tier]?.caps.perConversation ?? '0') }))
  const told = caps.map(({ tier, cap }) => `${tier} ${roundedUsd(cap, 2)}`).join(', ')
  const total = conversations.reduce((sum, _, index) => sum + (caps[index % caps.length]?.cap ?? 0n), 0n)
  const most = real ? `; in all at most ${roundedUsd(total, 2)} USD on your account` : ''
  return `${conversations.length} recorded conversations take the plans in turn; one may cost, USD: ${told}${most}`
}

function invitation(listen: Address, admin: Address, real: boolean): readonly string[] {
  const base = `http://${formatAddress(listen)}`
  const body = '{"model":"gpt-4o","messages":[{"role":"user","content":"Where is my parcel?"}]}'
  return [
    `It stays up. Apps: OPENAI_BASE_URL=${base}/openai/v1   metrics: http://${formatAddress(admin)}/metrics`,
    'Try it, and see where the conversation stands:',
    `  curl -si ${base}/openai/v1/chat/completions -H 'authorization: Bearer ${real ? '\'"$OPENAI_API_KEY"\'' : 'any'}' -H 'content-type: application/json' -H 'x-farebox-conversation: mine' -H 'x-farebox-user: me' -d '${body}'`,
    `  curl -s ${base}/farebox/v1/conversations/mine`,
    `  bin/farebox explain conversation mine --url ${base}`,
    hasKeys() ? 's and Enter shows status, Ctrl+C stops.' : 'SIGUSR2 shows status, SIGTERM stops.',
  ]
}

function progressLine(watched: readonly Watched[], total: number): string {
  const running = watched.filter(({ state }) => state === 'running').length
  const spent = watched.reduce((sum, row) => sum + row.spent, 0n)
  return `${watched.length - running} of ${total} conversations are over, ${running} running; ${roundedUsd(spent, 2)} USD so far`
}

function liveRow(watched: Watched): LiveRow {
  return { ...watched, spent: roundedUsd(watched.spent), budget: roundedUsd(watched.budget, 2) }
}
