/** Plays a script with an app against one address, and measures what the provider says of every call. */
import type { App, Counted, Shape } from './apps.ts'
import { resultOf } from './script.ts'
import type { ToolName, UserTurn } from './script.ts'

export interface PlayedCall extends Counted {
  /** 0 for the first. */
  readonly turn: number
  /** Of its turn, 0 for the one that begins it. */
  readonly step: number
  readonly headers: Headers
}

export interface Played {
  readonly calls: readonly PlayedCall[]
  /** How it ended, where that was before the script did. */
  readonly refused: { readonly status: number; readonly body: string; readonly turn: number } | null
}

export interface Place {
  /** Of the upstream, with what stands before the version. */
  readonly baseUrl: string
  readonly headers: Readonly<Record<string, string>>
  /** Called after each turn, with what its last call came to. */
  readonly afterTurn?: (last: PlayedCall) => Promise<void>
}

/** Until the script ends, or a call is refused. */
export async function play(shape: Shape, turns: readonly UserTurn[], place: Place): Promise<Played> {
  const app = shape.start()
  const calls: PlayedCall[] = []
  let results = 0
  for (const [turn, { text, instruction, steps, answerTokens }] of turns.entries()) {
    app.say(text, instruction)
    let last: PlayedCall | null = null
    for (let step = 0; step <= steps.length; step += 1) {
      const wanted = steps[step]
      const told = wanted === undefined ? { 'x-fake-output-tokens': String(answerTokens) } : { 'x-fake-tool-call': toldCalls(wanted, turn) }
      const answer = await post(app, place, told)
      const body = await answer.text()
      if (!answer.ok) return { calls, refused: { status: answer.status, body, turn } }
      const taken = app.take(JSON.parse(body))
      if (taken.calls.length !== (wanted?.length ?? 0))
        throw new Error(`turn ${turn}: ${taken.calls.length} calls in ${body.slice(0, 2_000)}`)
      if (taken.calls.length > 0) app.bring(taken.calls.map((call) => ({ call, text: resultOf(call.name, results++) })))
      last = { turn, step, headers: answer.headers, input: taken.input, cached: taken.cached }
      calls.push(last)
    }
    if (last !== null) await place.afterTurn?.(last)
  }
  return { calls, refused: null }
}

function post(app: App, { baseUrl, headers }: Place, told: Readonly<Record<string, string>>): Promise<Response> {
  return fetch(`${baseUrl}${app.path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...app.headers, ...headers, ...told },
    body: app.body(),
  })
}

function toldCalls(names: readonly ToolName[], turn: number): string {
  return JSON.stringify(names.map((name, index) => ({ name, arguments: { [name === 'look_up' ? 'order' : 'query']: `${turn}-${index}` } })))
}
