import { spawnSync } from 'node:child_process'
import type { NodeState } from './cluster.ts'

const RUN_MS_MAX = 120_000

/** Runs a command as the node would run it itself: with its network, mounts and processes. Gives what it printed; throws when it fails. */
export function runOnNode(node: NodeState, command: readonly string[], stdin: number | 'ignore' = 'ignore'): string {
  const [program = 'true', ...args] = [...entering(node), ...command]
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    stdio: [stdin, 'pipe', 'pipe'],
    timeout: RUN_MS_MAX,
    maxBuffer: 64 * 1_048_576,
  })
  if (status !== 0) throw new Error(`${command.join(' ')} failed on the node: ${stderr?.trim() || stdout?.trim() || error?.message}`)
  return stdout
}

/** What stands before a command to make it one of the node's. */
export function entering({ container, pid }: Pick<NodeState, 'container' | 'pid'>): readonly string[] {
  if (container !== null) return ['docker', 'exec', '--interactive', container]
  return ['nsenter', `--target=${pid}`, '--net', '--mount', '--pid', '--uts', '--ipc', '--']
}
