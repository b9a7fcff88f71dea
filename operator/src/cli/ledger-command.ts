/** `farebox ledger`: every entry as it was written, and whether the balances are what the entries come to. */
import { pipeline } from 'node:stream/promises'
import { Option } from 'commander'
import type { Command } from 'commander'
import { formatUsd } from '@farebox/crds/usd.ts'
import { BalanceSheet, csvHead, csvLines, jsonLine } from '../laptop/balance-sheet.ts'
import { SidecarClient } from '../laptop/sidecar-client.ts'
import { writeNewFile } from './new-file.ts'
import { DEFAULT_URL, fileOption, urlOption } from './options.ts'
import { verifyLedger } from '../laptop/verify-ledger.ts'

const SHOWN_MAX = 20
const RIGHT_OF_ENTRIES_ALONE =
  'every balance that an entry names is what its entries come to; others were not looked at: this sidecar is of a version that does not tell them'

export function addLedgerCommand(program: Command): void {
  const ledger = program
    .command('ledger')
    .summary('what was entered, entry by entry, and whether it adds up')
    .description(
      'The ledger of a running sidecar, or of all that share its store: each cost once, immutable, corrected by further entries.',
    )
  ledger
    .command('export')
    .description('all entries in order, each with the balances after it')
    .addOption(
      new Option(
        '--format <format>',
        'a line of JSON per entry, or a line of CSV per account moved, whose column costOnce adds up to what was spent',
      )
        .choices(['ndjson', 'csv'])
        .default('ndjson'),
    )
    .option(
      '--output <file>',
      'in place of standard output; a file that is there is replaced once the new one is whole, if its folder allows that',
      fileOption,
    )
    .option('--url <url>', 'of the sidecar', urlOption, DEFAULT_URL)
    .action(exportLedger)
  ledger
    .command('verify')
    .description('works out every balance again from the entries; ends with 1 where one differs')
    .option('--url <url>', 'of the sidecar', urlOption, DEFAULT_URL)
    .action(verify)
}

interface ExportOptions {
  readonly format: 'ndjson' | 'csv'
  readonly output?: string
  readonly url: string
}

async function exportLedger({ format, output, url }: ExportOptions): Promise<void> {
  const sheet = new BalanceSheet()
  const text = exported(new SidecarClient(url), sheet, format)
  if (output === undefined) return await pipeline(text, process.stdout, { end: false })
  const stopping = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stopping.abort())
  try {
    await writeNewFile(output, text, stopping.signal)
  } catch (error) {
    if (stopping.signal.aborted) throw new Error(`--output ${output}: not written: it was stopped before its end`, { cause: error })
    // Of the two sides, only the file's errors are those of a system call.
    throw error instanceof Error && 'syscall' in error
      ? new Error(`--output ${output}: cannot be written: ${error.message}`, { cause: error })
      : error
  }
  process.stderr.write(`${sheet.entries} entries, ${formatUsd(sheet.total)} USD in all, in ${output}\n`)
}

/** A piece for each page. */
async function* exported(client: SidecarClient, sheet: BalanceSheet, format: ExportOptions['format']): AsyncGenerator<string> {
  if (format === 'csv') yield `${csvHead()}\n`
  for await (const page of client.ledger()) {
    const lines = page.flatMap((entry) => {
      const balances = sheet.add(entry)
      return format === 'csv' ? csvLines(entry, balances) : [jsonLine(entry, balances)]
    })
    if (lines.length > 0) yield `${lines.join('\n')}\n`
  }
}

async function verify(options: { readonly url: string }): Promise<void> {
  const { sheet, outlived, differences, isOfEntriesAlone } = await verifyLedger(new SidecarClient(options.url))
  for (const { account, entered, spent } of differences.slice(0, SHOWN_MAX))
    print(`${account}: its entries come to ${formatUsd(entered)}, its balance is ${formatUsd(spent)}`)
  if (differences.length > SHOWN_MAX) print(`... and ${differences.length - SHOWN_MAX} more`)
  const gone = outlived === 0 ? '' : `, ${outlived} have outlived their balance`
  print(`${sheet.entries} entries, ${formatUsd(sheet.total)} USD; ${sheet.accounts.size} accounts${gone}`)
  const right = isOfEntriesAlone ? RIGHT_OF_ENTRIES_ALONE : 'every balance is what its entries come to'
  print(differences.length === 0 ? right : wrong(differences.length))
  if (differences.length > 0) process.exitCode = 1
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

function wrong(count: number): string {
  return count === 1 ? '1 balance is not what its entries come to' : `${count} balances are not what their entries come to`
}
