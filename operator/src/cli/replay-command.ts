/** `farebox replay`: recorded conversations through the real client, to any endpoint. */
import type { Command } from 'commander'
import { Option } from 'commander'
import { whyUnreachable } from '../laptop/addresses.ts'
import { readRecords, RETRIEVAL_SHAPES } from '../laptop/records.ts'
import type { RecordedConversation, RetrievalShape } from '../laptop/records.ts'
import { replay } from '../laptop/replay.ts'
import type { ReplayReport } from '../laptop/replay.ts'
import { onLostOutput } from './lost-output.ts'
import { countOption, suffixOption, urlOption } from './options.ts'
import { renderTable, truncate, widthOfStream } from './table.ts'

interface Options {
  readonly baseUrl: string
  readonly concurrency: number
  readonly limit?: number
  readonly model?: string
  readonly tier?: string
  readonly retrieval: RetrievalShape
  readonly idSuffix?: string
}

const NAME_WIDTH = 40

export function addReplayCommand(program: Command): void {
  program
    .command('replay')
    .summary('play recorded conversations through an endpoint')
    .description(
      'Plays recorded conversations (NDJSON, plain or gzipped, OpenAI chat format) as an app would: it says what the user said, resends what it\n' +
        'was answered, and gives the recorded results of the tool calls that it gets. A record without answers is a list of questions: each is\n' +
        'asked once. Every replay is of new conversations and new users, so that it shows the plan as it is now: a conversation that has begun\n' +
        'keeps the contract and the spending that it has.',
    )
    .argument('<file>', 'conversations, one JSON record a line')
    .requiredOption('--base-url <url>', 'where to send them, version included: http://127.0.0.1:4180/openai/v1', urlOption)
    .option('--concurrency <n>', 'conversations at the same time', countOption, 4)
    .option('--limit <n>', 'only the first n conversations', countOption)
    .option('--model <name>', 'in place of the recorded model')
    .option('--tier <name>', 'sent as x-farebox-tier')
    .addOption(
      new Option('--retrieval <shape>', 'how recorded passages are sent: as tool results, or in tags of the user message')
        .choices(RETRIEVAL_SHAPES)
        .default('tools'),
    )
    .option(
      '--id-suffix <text>',
      `what ids of conversations and users end in; "" goes on in those of the recording (default: new each time)`,
      suffixOption,
    )
    .addHelpText(
      'after',
      '\nThe key is taken from OPENAI_API_KEY. Ends with 1 when a conversation failed. RUNG and PERCENT BEFORE are those of the last call: what was\n' +
        'used when it came. `farebox top` shows what is used after it.',
    )
    .action(run)
}

async function run(file: string, options: Options): Promise<void> {
  const limit = options.limit === undefined ? {} : { limit: options.limit }
  const conversations = await readRecords(file, { shape: options.retrieval, ...limit })
  // The client tries for half a minute before it gives a conversation up, and then does not say where nobody was.
  const unreachable = await whyUnreachable(options.baseUrl)
  if (unreachable !== null) throw new Error(`--base-url ${options.baseUrl}: nothing answers there (${unreachable})`)
  const stopping = new AbortController()
  process.once('SIGINT', () => stopping.abort())
  process.once('SIGTERM', () => stopping.abort())
  onLostOutput(() => stopping.abort())
  const { tier, idSuffix = `-${Date.now().toString(36)}` } = options
  const idOf = ({ id }: RecordedConversation): string => `${id}${idSuffix}`
  if (idSuffix !== '') process.stderr.write(`${newIdsLine(conversations, idSuffix)}\n`)
  const reports = await replay(conversations, {
    baseUrls: [options.baseUrl],
    apiKey: process.env['OPENAI_API_KEY'] ?? 'none',
    concurrency: options.concurrency,
    signal: stopping.signal,
    ...(options.model === undefined ? {} : { model: options.model }),
    headers: (conversation) => ({
      'x-farebox-conversation': idOf(conversation),
      ...(tier === undefined ? {} : { 'x-farebox-tier': tier }),
    }),
    user: (conversation) => `user of ${idOf(conversation)}`,
    onDone: (report) => void process.stderr.write(`${report.id}: ${report.outcome}${report.error === null ? '' : `: ${report.error}`}\n`),
  })
  process.stdout.write(`${replayLines(reports).join('\n')}\n`)
  if (reports.some(({ outcome }) => outcome === 'failed' || outcome === 'stopped')) process.exitCode = 1
}

function newIdsLine([first]: readonly RecordedConversation[], idSuffix: string): string {
  const example = first === undefined ? '' : `, as in: farebox explain conversation ${first.id}${idSuffix}`
  return `the ids of this replay end in ${idSuffix}${example}`
}

function replayLines(reports: readonly ReplayReport[]): readonly string[] {
  const counts = new Map<string, number>()
  for (const { outcome } of reports) counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  const table = renderTable<ReplayReport>(
    [
      { head: 'CONVERSATION', cell: (report) => truncate(report.id, NAME_WIDTH) },
      { head: 'OUTCOME', cell: (report) => report.outcome },
      { head: 'CALLS', align: 'right', cell: (report) => `${report.calls} of ${report.callsRecorded}` },
      { head: 'RUNG', cell: (report) => report.standing?.rung ?? '-' },
      { head: 'PERCENT BEFORE', align: 'right', cell: (report) => (report.standing === null ? '-' : String(report.standing.percent)) },
      { head: 'SECONDS', align: 'right', cell: (report) => (report.durationMs / 1000).toFixed(1) },
    ],
    reports,
    widthOfStream(process.stdout),
  )
  return [...table, '', [...counts].map(([outcome, count]) => `${count} ${outcome}`).join(', ')]
}
