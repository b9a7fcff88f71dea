/** A model that the plan does not let in: who reads the error, or the log, sees by its name whether it is a slip. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startProvider } from '../provider/server.ts'
import type { Provider } from '../provider/server.ts'
import { makeConfig, makeContract } from '../support/make.ts'
import { startSidecar } from '../support/sidecar.ts'
import type { Sidecar } from '../support/sidecar.ts'
import { startTalk } from '../support/talk.ts'

let provider: Provider
let sidecar: Sidecar
before(async () => {
  provider = await startProvider()
  const contract = makeContract({ models: { allow: ['gpt4o'], downgrades: [] } })
  sidecar = await startSidecar(makeConfig(`${provider.url}/v1`, [contract]))
})
after(async () => {
  await sidecar.close()
  await provider.close()
})

test('a model that is not let in is refused by its name, which the log has as well', async () => {
  const said = await startTalk(sidecar, { 'x-farebox-conversation': 'slip' }).say('Hi.', { body: { model: 'gpt-4o' } })
  assert.deepEqual([said.status, said.code], [403, 'model_not_allowed'])
  assert.match(said.text, /does not include the model "gpt-4o"/)
  await sidecar.idle()
  const logged = sidecar
    .log()
    .split('\n')
    .filter((line) => line.includes('model_not_allowed'))
    .map((line): unknown => JSON.parse(line))
  assert.equal(logged.length, 1)
  assert.partialDeepStrictEqual(logged, [{ msg: 'refused', param: 'model', model: 'gpt-4o' }])
})
