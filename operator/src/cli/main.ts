/** The `farebox` command. */
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import * as z from 'zod'
import { messageOf } from '../core/error-text.ts'
import { ManifestsRefused } from '../laptop/laptop.ts'
import { addDemoCommand } from './demo-command.ts'
import { addExplainCommand } from './explain-command.ts'
import { addLedgerCommand } from './ledger-command.ts'
import { addLintCommand } from './lint-command.ts'
import { isLost, onOutputError } from './lost-output.ts'
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

function fail(error: unknown): never {
  const message = messageOf(error)
  process.stderr.write(error instanceof ManifestsRefused ? `${message}\n` : `farebox: ${message}\n`)
  process.exit(1)
}

// Output that nobody takes is no error. What has something to stop first is told by `onLostOutput`.
onOutputError((error) => {
  if (!isLost(error)) fail(error)
  if (process.listenerCount('SIGTERM') === 0) process.exit(0)
})

main().catch(fail)
