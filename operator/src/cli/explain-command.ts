/** `farebox explain`: where a number comes from. */
import type { Command } from 'commander'
import { pricesOf } from '../core/price-books.ts'
import { budgetKey } from '../core/same-pods.ts'
import { ManifestsRefused } from '../laptop/laptop.ts'
import { formatComplaint, loadManifests } from '../laptop/loaded-manifests.ts'
import type { LoadedManifests } from '../laptop/loaded-manifests.ts'
import { readManifestFolder } from '../laptop/manifest-folder.ts'
import type { FoundFile } from '../laptop/manifest-folder.ts'
import { readPipe } from '../laptop/piped-manifest.ts'
import { SidecarClient } from '../laptop/sidecar-client.ts'
import { explainBudget, explainConversation, explainTier } from './explanations.ts'
import type { Told } from './explanations.ts'
import { DEFAULT_URL, manifestsFlag, urlOption } from './options.ts'

export function addExplainCommand(program: Command): void {
  const explain = program
    .command('explain')
    .summary('where a number comes from, line by line')
    .description('Where a number comes from, line by line.')
  explain
    .command('tier')
    .description('from a price and a margin to the cap of a conversation')
    .argument('<name>', 'of the PricingTier')
    .addOption(manifestsFlag())
    .action(async (name: string, options: { readonly file: readonly string[] }) => print(await tierLines(name, options.file)))
  explain
    .command('budget')
    .description('the tiers that a budget binds, and where their prices come from')
    .argument('<name>', 'of the ConversationBudget: NAME or NAMESPACE/NAME')
    .addOption(manifestsFlag())
    .action(async (name: string, options: { readonly file: readonly string[] }) => print(await budgetLines(name, options.file)))
  explain
    .command('conversation')
    .description('where a conversation stands in a running sidecar, and why')
    .argument('<id>', "the app's own id, or the hash from the x-farebox-conversation header of an answer")
    .option('--url <url>', 'of the sidecar', urlOption, DEFAULT_URL)
    .action(async (id: string, options: { readonly url: string }) => {
      print(explainConversation(await new SidecarClient(options.url).conversation(id)))
    })
}

async function tierLines(name: string, paths: readonly string[]): Promise<readonly string[]> {
  const { manifests, compiled } = await loaded(paths)
  const tier = manifests.snapshot.tiers.find(({ metadata }) => metadata.name === name)
  const result = compiled.tiers.get(name)
  if (tier === undefined || result === undefined) throw unknown('PricingTier', name, paths, [...compiled.tiers.keys()])
  if (result.status === 'refused') process.exitCode = 1
  return explainTier(tier, result, placer(manifests, `PricingTier/${name}`))
}

async function budgetLines(name: string, paths: readonly string[]): Promise<readonly string[]> {
  const { manifests, compiled } = await loaded(paths)
  const { budgets } = manifests.snapshot
  const found = budgets.filter((budget) => budgetKey(budget) === name || budget.metadata.name === name)
  const [budget] = found
  if (budget === undefined) throw unknown('ConversationBudget', name, paths, budgets.map(budgetKey))
  if (found.length > 1) throw new Error(`"${name}" is there more than once: say ${found.map(budgetKey).join(' or ')}`)
  const object = `ConversationBudget/${budgetKey(budget)}`
  const refused = refusalOf(compiled, object)
  if (refused !== undefined) process.exitCode = 1
  const warnings = compiled.findings.filter((finding) => finding.object === object && GOVERNED_ELSEWHERE.has(finding.reason))
  const nowMs = Date.now()
  return explainBudget(budget, {
    tiers: compiled.tiers,
    prices: pricesOf(manifests.snapshot, nowMs),
    nowMs,
    place: placer(manifests, object),
    warnings,
    ...(refused === undefined ? {} : { refused }),
  })
}

/** Reasons of budgets that are well, but that hold not, or not alone, for the pods that they select. */
const GOVERNED_ELSEWHERE: ReadonlySet<string> = new Set(['PartiallyProgrammed', 'SelectorsOverlap'])

/** What compile found of an object that is not accepted; undefined: it is. */
function refusalOf({ statuses, findings }: LoadedManifests['compiled'], object: string): Told | undefined {
  const accepted = statuses.get(object)?.conditions?.find(({ type }) => type === 'Accepted')
  if (accepted?.status !== 'False') return undefined
  return findings.find((finding) => finding.object === object && finding.reason === accepted.reason)
}

/** Files that several of the paths lead to are read once. */
async function loaded(paths: readonly string[]): Promise<LoadedManifests> {
  const files = new Map<string, FoundFile>()
  for (const path of paths) {
    const piped = await readPipe(path)
    for (const file of piped === null ? await readManifestFolder(path) : [piped])
      if (!files.has(file.realPath)) files.set(file.realPath, file)
  }
  const result = loadManifests([...files.values()], { nowMs: Date.now() })
  if (result.status === 'invalid') throw new ManifestsRefused(result.complaints.map(formatComplaint).join('\n'))
  return result.loaded
}

function placer(manifests: LoadedManifests['manifests'], object: string): (field: string) => string {
  return (field) => {
    const place = manifests.locate(object, field)
    return place === null ? object : `${place.file}:${place.line}`
  }
}

function unknown(kind: string, name: string, paths: readonly string[], known: readonly string[]): Error {
  return new Error(`there is no ${kind} "${name}" in ${paths.join(', ')}; there is ${known.join(', ') || 'none'}`)
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`)
}
