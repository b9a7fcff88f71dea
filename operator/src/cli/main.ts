/** The `farebox` command. */
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import * as z from 'zod'
import { ManifestsRefused } from '../laptop/laptop.ts'
import { addDemoCommand } from './demo-command.ts'
import { addExplainCommand } from './explain-command.ts'
import { addLedgerCommand } from './ledger-command.ts'
import { addLintCommand } from './lint-command.ts'
import { addReplayCommand } from './replay-command.ts'
import { addRunCommand } from './run-command.ts'
import { addTopCommand } from './top-command.ts'

const PACKAGE = new URL('../../../package.json', import.meta.url)

async function main(): Promise<void> {
  const { version } = z.object({ version: z.string() }).parse(JSON.parse(readFileSync(PACKAGE, 'utf8')))
  const program = new Command('farebox')
    .description('Cost per conversation as a product contract: meters, caps and degrades model calls by the plans you sell.')
    .version(version, '-V, --version', 'print the version')
    .showHelpAfterError('(farebox --help says more)')
  addRunCommand(program)
  addLintCommand(program)
  addExplainCommand(program)
  addTopCommand(program)
  addLedgerCommand(program)
  addReplayCommand(program)
  addDemoCommand(program)
  program.addHelpText(
    'after',
    '\nBegin with:\n  farebox demo                                          recorded conversations through three plans\n' +
      '  farebox explain tier support-seat -f examples/support-desk\n  farebox run -f examples/support-desk',
  )
  await program.parseAsync()
}

// A reader that has seen enough (`farebox ... | head`) and a terminal that was closed are no errors. What has children stops them first.
let isHeard = true
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error
    if (isHeard && !process.emit('SIGTERM', 'SIGTERM')) process.exit(0)
    isHeard = false
  })
}

main().catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error)
  process.stderr.write(error instanceof ManifestsRefused ? `${message}\n` : `farebox: ${message}\n`)
  process.exit(1)
})
