/** No body of a call that is no talk, however nasty, holds up the other conversations of the pod. */
import { describe } from 'node:test'
import { speechWire } from './audio.ts'
import { completionsWire } from './completions.ts'
import { embeddingsWire } from './embeddings.ts'
import { imagesWire } from './images.ts'
import { testPauses } from './nasty-bodies.testing.ts'
import type { Wire } from './wire.ts'

const WIRES: readonly (readonly [wire: Wire, path: string, model: string, field: string])[] = [
  [embeddingsWire, '/embeddings', 'text-embedding-3-small', 'input'],
  [completionsWire, '/completions', 'gpt-3.5-turbo-instruct', 'prompt'],
  [imagesWire, '/images/generations', 'gpt-image-1', 'prompt'],
  [speechWire, '/audio/speech', 'gpt-4o-mini-tts', 'input'],
]

for (const [wire, path, model, field] of WIRES) {
  describe(wire.name, () => {
    const head = `{"model":"${model}","voice":"ash","${field}":`
    const call = {
      upstream: { provider: 'openai', outputLimitField: 'max_tokens' as const, deployments: [] },
      path,
      contentType: 'application/json',
    }
    testPauses(
      {
        head: `${head}"hi"`,
        said: (content) => `${head}${content}}`,
        listed: (elements) => `${head}[${elements}"hi"]}`,
        message: (more) => `{"a":1${more}}`,
        saying: (content) => content,
        textPart: '"some characters that say nothing, but are there"',
        imagePart: '[1,2,3]',
        image: (base64) => `"data:image/jpeg;base64,${base64}"`,
        calling: (count) => `[${'17,'.repeat(count)}1]`,
        answering: () => '"a text that is as long as a result of a tool may be, or a little longer than that"',
      },
      (body) => wire.parse(body, call),
      (request) => wire.render(request, {}, call),
    )
  })
}
