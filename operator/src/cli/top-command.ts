/** `farebox top`: who and what costs most now, from a running sidecar. */
import { Option } from 'commander'
import type { Command } from 'commander'
import { SidecarClient } from '../laptop/sidecar-client.ts'
import { DEFAULT_URL, rowsOption, urlOption } from './options.ts'
import { trafficLines } from './status-report.ts'
import { widthOfStream } from './table.ts'
import { conversationsLines, fullest, usersLines } from './top-report.ts'

const ROWS_USUAL = 20

type Output = 'table' | 'json'
interface TopOptions {
  readonly url: string
  readonly limit: number
  readonly output: Output
}

export function addTopCommand(program: Command): void {
  const top = program
    .command('top')
    .summary('who and what costs most now')
    .description(
      'What a running sidecar, or all that share its store, knows: tiers, conversations, users. Ids are hashed; the app finds its own\n' +
        'by GET /farebox/v1/users/ID.',
    )
  withOptions(
    top.command('conversations', { isDefault: true }).description('tiers, and the conversations that have used most of their budget'),
  ).action(topConversations)
  withOptions(top.command('users').description('the heaviest users of a tier in the current period of its user budget'))
    .option('--tier <name>', 'absent: the default tier of the workload')
    .action(topUsers)
}

function withOptions(command: Command): Command {
  return command
    .option('--url <url>', 'of the sidecar', urlOption, DEFAULT_URL)
    .option('--limit <count>', 'rows, 1 to 1000', rowsOption, ROWS_USUAL)
    .addOption(new Option('-o, --output <format>', 'for people, or for programs').choices(['table', 'json']).default('table'))
}

async function topUsers({ url, limit, output, tier }: TopOptions & { readonly tier?: string }): Promise<void> {
  const page = await new SidecarClient(url).users({ limit, ...(tier === undefined ? {} : { tier }) })
  print(output === 'json' ? [JSON.stringify(page, null, 2)] : usersLines(page, widthOfStream(process.stdout)))
}

async function topConversations({ url, limit, output }: TopOptions): Promise<void> {
  const client = new SidecarClient(url)
  const [status, all] = await Promise.all([client.status(), client.conversations()])
  const conversations = fullest(all, limit)
  if (output === 'json') return print([JSON.stringify({ tiers: status.tiers, limits: status.limits, conversations }, null, 2)])
  const width = widthOfStream(process.stdout)
  print([...trafficLines(status, width), '', ...conversationsLines(conversations, width)])
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`)
}
