/** Processes that a test started end with its own, however that ends but by SIGKILL: what is left would meddle with the next. */
import type { ChildProcess } from 'node:child_process'

const children = new Set<ChildProcess>()

export function endsWithUs<Child extends ChildProcess>(child: Child): Child {
  watch()
  children.add(child)
  child.once('exit', () => children.delete(child))
  return child
}

let isWatching = false
function watch(): void {
  if (isWatching) return
  isWatching = true
  process.once('exit', () => {
    for (const child of children) child.kill('SIGKILL')
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
}
