/** Output that nobody takes any more: a reader that has seen enough (`farebox ... | head`), a terminal that was closed. */

/** Told of each write that reached nobody, and of no other trouble: what has something to stop asks for it here. */
export function onLostOutput(act: () => void): void {
  onOutputError((error) => {
    if (isLost(error)) act()
  })
}

/** Of standard output and standard error. */
export function onOutputError(act: (error: NodeJS.ErrnoException) => void): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', act)
}

export function isLost({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EPIPE' || code === 'EIO'
}
