/**
 * A streamed answer on its way out. `node:http` hands each chunk to the kernel as three pieces (its size, itself, a line
 * end), and most of what a chunk costs is that hand-over: here it is framed in one piece, and written to the socket itself.
 * Head and end stay with `node:http`, and so does all of it where the answer is not chunked or the socket is not ours yet.
 */
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

export class StreamedAnswer {
  readonly #outgoing: ServerResponse
  readonly #drained: () => void
  /** Null: `node:http` writes. */
  readonly #socket: Socket | null
  #awaitsDrain = false

  /** Sends the head, which was given to `outgoing` before. `drained` is called when a client that was slow can take more. */
  constructor(outgoing: ServerResponse, drained: () => void) {
    this.#outgoing = outgoing
    this.#drained = drained
    outgoing.flushHeaders()
    // A pipelined request has no socket before the answers in front of it are out.
    this.#socket = outgoing.chunkedEncoding && outgoing.writableLength === outgoing.socket?.writableLength ? outgoing.socket : null
  }

  /** Writes the pieces as one, copied. False when the client is slow: `drained` follows. */
  write(pieces: readonly Buffer[]): boolean {
    let length = 0
    for (const piece of pieces) length += piece.length
    if (length === 0) return true // an empty chunk would end the answer
    if (this.#socket === null) return this.#wait(this.#outgoing.write(Buffer.concat(pieces, length)), this.#outgoing)
    const size = length.toString(16)
    const frame = Buffer.allocUnsafe(size.length + length + 2 * LINE_END.length)
    let at = frame.write(size, 0, 'latin1')
    at += LINE_END.copy(frame, at)
    for (const piece of pieces) at += piece.copy(frame, at)
    LINE_END.copy(frame, at)
    return this.#wait(this.#socket.write(frame), this.#socket)
  }

  #wait(goesOn: boolean, target: ServerResponse | Socket): boolean {
    if (!goesOn && !this.#awaitsDrain) {
      this.#awaitsDrain = true
      target.once('drain', () => {
        this.#awaitsDrain = false
        this.#drained()
      })
    }
    return goesOn
  }
}

const LINE_END = Buffer.from('\r\n')
