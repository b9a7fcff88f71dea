/** CPU time and memory of a process and its children, as Linux tells them in /proc. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { parseResidentMb, parseSchedstat, parseStat } from './statistics.ts'

/** CPU time that the process, its threads and its children have used so far, in microseconds. */
export function cpuMicros(pid: number): number {
  return familyOf(pid).reduce((total, member) => total + ownMicros(member), 0)
}

/** Resident memory of the process and its children, in MB (10^6 bytes); pages that they share count in each. */
export function residentMb(pid: number): number {
  return familyOf(pid).reduce((total, member) => total + parseResidentMb(readFileSync(`/proc/${member}/status`, 'utf8')), 0)
}

/** schedstat counts nanoseconds; where the kernel was built without it, stat counts ticks, of 10 ms as a rule. */
function ownMicros(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`)
  if (!existsSync(`/proc/${pid}/schedstat`)) return parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'), ticksPerSecond())
  return threads.reduce((total, thread) => total + parseSchedstat(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')), 0)
}

function familyOf(pid: number): readonly number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  )
  return [pid, ...children.flatMap(familyOf)]
}

function ticksPerSecond(): number {
  return Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))
}
