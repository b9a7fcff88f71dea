/**
 * Lines that somebody types, read only while this process is in the foreground of its terminal: one that reads in the background
 * (`farebox run ... &`) is stopped by the kernel, and where it listens for that signal, SIGTTIN, its read never returns.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Interface } from 'node:readline'
import type { Readable } from 'node:stream'

/** A shell says nothing to a job that it brings to the foreground while it runs. */
const LOOK_MS = 500

/** Whether somebody can type to this process at this moment. */
export function hasKeys(): boolean {
  return process.stdin.isTTY && isInForeground()
}

/** Calls `onLine` for each line that is typed. Nothing is read where standard input is no terminal. */
export function listenToKeys(onLine: (line: string) => void): { stop(): void } {
  return process.stdin.isTTY ? listenToLines({ input: process.stdin, mayRead: isInForeground, onLine }) : { stop: () => undefined }
}

export interface LinesOptions {
  readonly input: Readable
  readonly mayRead: () => boolean
  readonly onLine: (line: string) => void
}

/** Asks `mayRead` at once, when this process goes on after it was stopped, and again and again while it must not. */
export function listenToLines({ input, mayRead, onLine }: LinesOptions): { stop(): void } {
  let lines: Interface | null = null
  let timer: NodeJS.Timeout | undefined
  const pause = (): void => {
    lines?.close()
    lines = null
    clearTimeout(timer)
  }
  const look = (): void => {
    pause()
    if (mayRead()) lines = createInterface({ input }).on('line', onLine).on('error', pause)
    else timer = setTimeout(look, LOOK_MS)
  }
  process.on('SIGCONT', look)
  input.on('error', pause) // a terminal that is gone; the reader of lines is told as well
  look()
  return {
    stop() {
      process.off('SIGCONT', look)
      input.off('error', pause)
      pause()
    },
  }
}

/** True where nobody can tell, or there is no terminal that could stop it. */
function isInForeground(): boolean {
  const groups = groupsByProc() ?? groupsByPs()
  return groups === null || groups.foreground <= 0 || groups.own === groups.foreground
}

/** Process groups: of this process, and the one that may read its terminal. */
interface Groups {
  readonly own: number
  readonly foreground: number
}

/** `proc(5)`: pid (name) state ppid pgrp session tty_nr tpgid ...; a name may hold blanks and parentheses. */
export function groupsOfStat(stat: string): Groups | null {
  const [, , own, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return groupsOf(own, foreground)
}

function groupsByProc(): Groups | null {
  try {
    return groupsOfStat(readFileSync('/proc/self/stat', 'utf8'))
  } catch {
    return null
  }
}

function groupsByPs(): Groups | null {
  const { stdout } = spawnSync('ps', ['-o', 'pgid=,tpgid=', '-p', String(process.pid)], { encoding: 'utf8' })
  const [own, foreground] = (stdout ?? '').trim().split(/\s+/)
  return groupsOf(own, foreground)
}

function groupsOf(own: string | undefined, foreground: string | undefined): Groups | null {
  const groups = { own: Number(own), foreground: Number(foreground) }
  return Number.isInteger(groups.own) && Number.isInteger(groups.foreground) ? groups : null
}
