import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import * as fc from 'fast-check'
import type { JsonObject, ModelRequest } from '../core/request.ts'
import { geminiCall, geminiWire } from './gemini-request.ts'
import { objectTexts } from './bodies.testing.ts'
import type { CallContext } from './wire.ts'

const PATH = '/v1beta/models/gemini-2.5-flash:generateContent'
const callAt = (path: string): CallContext => ({
  upstream: { provider: 'google', outputLimitField: 'max_tokens', deployments: [] },
  path,
  contentType: 'application/json',
})

async function read(body: object | string, path = PATH): Promise<ModelRequest> {
  const parsed = await geminiWire.parse(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), callAt(path))
  assert.ok(parsed.status === 'ok', JSON.stringify(parsed))
  return parsed.request
}
async function fault(body: object | string, path = PATH): Promise<string> {
  const parsed = await geminiWire.parse(Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)), callAt(path))
  assert.ok(parsed.status === 'invalid', JSON.stringify(parsed))
  return `${parsed.field}: ${parsed.message}`
}
function rendered(request: ModelRequest, change: Parameters<typeof geminiWire.render>[1]): JsonObject {
  return JSON.parse(geminiWire.render(request, change).toString()) as JsonObject
}

const hi = { role: 'user', parts: [{ text: 'Hi' }] }
const contents = [hi]
const look = { functionDeclarations: [{ name: 'look' }] }

describe('what a request asks', () => {
  test('the model, and whether it streams, stand in the path', async () => {
    const plain = await read({ contents })
    assert.deepEqual([plain.model, plain.stream], ['gemini-2.5-flash', false])
    const stream = await read({ contents }, '/v1beta/models/gemini-3-pro-preview:streamGenerateContent?alt=sse&key=k')
    assert.deepEqual([stream.model, stream.stream], ['gemini-3-pro-preview', true])
    for (const path of [
      '/models/m:generateContent',
      '/v1/models/m:generateContent',
      '/v1beta1/projects/p/locations/l/publishers/google/models/m:generateContent',
      '/v1beta1/publishers/google/models/m:generateContent?key=k',
    ])
      assert.deepEqual(geminiCall(path), { model: 'm', method: 'generateContent' }, path)
    for (const path of [
      '/v1/projects/p/publishers/google/models/m:generateContent',
      '/v1beta/models',
      '/v1beta/files',
      '/v1beta/models/a/b:generateContent',
      '/v1beta/models/%zz:generateContent',
    ])
      assert.equal(geminiCall(path), null, path)
  })

  test('either spelling of a name is read, a number as text, one message as a list', async () => {
    const request = await read({
      contents: hi,
      generation_config: { max_output_tokens: '40', candidate_count: 2 },
      tool_config: { function_calling_config: { mode: 2 } },
      tools: look,
    })
    assert.deepEqual(
      [request.messages.length, request.outputLimit, request.choices],
      [1, { field: 'generationConfig.maxOutputTokens', tokens: 40 }, 2],
    )
  })

  test('the tier of a header, which is dearer, goes before that of the body', async () => {
    const tier = async (body: object, askedTier: string | null): Promise<string | null> => {
      const parsed = await geminiWire.parse(Buffer.from(JSON.stringify({ contents, ...body })), { ...callAt(PATH), askedTier })
      assert.ok(parsed.status === 'ok')
      return parsed.request.serviceTier
    }
    assert.equal(await tier({}, 'priority'), 'priority')
    assert.equal(await tier({ serviceTier: 'flex' }, 'priority'), 'priority')
    assert.equal(await tier({ serviceTier: 'flex' }, null), 'flex')
    assert.equal(await tier({}, null), null)
    for (const written of ['priority', 'PRIORITY', 'SERVICE_TIER_PRIORITY', 'service_tier_priority'])
      assert.equal(await tier({ service_tier: written }, null), 'priority', written)
  })

  test('functions may be offered, forced or refused', async () => {
    const mode = async (mode?: string | number): Promise<readonly [string, boolean]> => {
      const { tools, toolsRefused } = await read({
        contents,
        tools: [look],
        ...(mode === undefined ? {} : { toolConfig: { functionCallingConfig: { mode } } }),
      })
      return [tools, toolsRefused]
    }
    assert.deepEqual(await mode(), ['offered', false])
    assert.deepEqual(await mode('ANY'), ['forced', false])
    assert.deepEqual(await mode('NONE'), ['offered', true])
    assert.deepEqual(await mode(3), ['offered', true])
    assert.equal((await read({ contents, toolConfig: { functionCallingConfig: { mode: 'ANY' } } })).tools, 'none')
  })

  test('tools of the provider: a search costs a fee, code and pages are read again', async () => {
    assert.deepEqual((await read({ contents, tools: [{ googleSearch: {} }] })).hosted, {
      tools: ['webSearch'],
      maxCalls: 1,
      rereads: false,
      resultsRead: 10,
    })
    assert.deepEqual((await read({ contents, tools: [{ google_search: {} }] }, PATH.replace('2.5-flash', '3-pro'))).hosted, {
      tools: ['webSearch'],
      maxCalls: 10,
      rereads: false,
      resultsRead: 10,
    })
    for (const tool of [{ urlContext: {} }, { code_execution: {} }, { not_known_yet: {} }]) {
      const { hosted, tools } = await read({ contents, tools: [tool] })
      assert.deepEqual([hosted, tools], [{ tools: [], maxCalls: null, rereads: true, fewestCalls: 10 }, 'offered'], JSON.stringify(tool))
    }
    assert.equal((await read({ contents, tools: [{ computerUse: {} }] })).hosted.rereads, false)
    assert.deepEqual((await read({ contents, tools: [look] })).hosted.tools, [])
  })

  test('an answer that must be JSON, speech or images is structured', async () => {
    for (const generationConfig of [
      { responseMimeType: 'application/json' },
      { response_json_schema: {} },
      { responseModalities: ['TEXT', 'IMAGE'] },
    ])
      assert.equal((await read({ contents, generationConfig })).structured, true, JSON.stringify(generationConfig))
    assert.equal(
      (await read({ contents, generationConfig: { responseMimeType: 'text/plain', responseModalities: ['TEXT'] } })).structured,
      false,
    )
    for (const responseModalities of [['AUDIO'], 'audio', ['TEXT', 3], 3]) {
      const spoken = await read({ contents, generationConfig: { responseModalities } })
      assert.deepEqual([spoken.fields.has('audio'), spoken.structured], [true, true], JSON.stringify(responseModalities))
    }
    assert.equal((await read({ contents, generationConfig: { responseModalities: [1] } })).structured, false)
    assert.equal((await read({ contents, generationConfig: { responseModalities: ['IMAGE'] } })).fields.has('audio'), false)
  })

  test('what fills the window beside the messages has a digest; sampling and bounds are no part of it', async () => {
    const digest = async (more: object): Promise<string> => (await read({ contents, ...more })).fixedDigest
    const plain = await digest({})
    assert.equal(await digest({ generationConfig: { maxOutputTokens: 5, temperature: 1, seed: 3 }, safetySettings: [] }), plain)
    assert.equal(await digest({ systemInstruction: hi }), plain, 'which is a message')
    for (const more of [{ tools: [look] }, { generationConfig: { responseSchema: {} } }, { unknown: 1 }])
      assert.notEqual(await digest(more), plain)
  })

  test('cached content is of unknown length: it is not governed', async () => {
    const parsed = await geminiWire.parse(Buffer.from(JSON.stringify({ contents, cachedContent: 'cachedContents/1' })), callAt(PATH))
    assert.equal(parsed.status, 'ungoverned')
  })

  test('what cannot be sure is refused, and named', async () => {
    assert.match(await fault('{'), /^null: /)
    assert.match(await fault({}), /^contents: /)
    assert.match(await fault({ contents: [] }), /^contents: /)
    assert.match(await fault({ contents, serviceTier: 2 }), /^serviceTier: /)
    for (const query of [
      'fields=candidates',
      '$fields=a',
      '%24fields=a',
      'alt=sse&f%69elds=a',
      '$httpHeaders=X-Goog-FieldMask:a',
      'callback=a',
    ])
      assert.match(await fault({ contents }, `${PATH}?${query}`), /^query: /, query)
    await read({ contents }, `${PATH}?alt=sse&$alt=json&key=k&&prettyPrint=false&access_token=t`)
    assert.match(await fault({ contents: ['Hi'] }), /^contents\[0\]: /)
    assert.match(await fault({ contents: [hi, { role: 'assistant', parts: [] }] }), /^contents\[1\]\.role: /)
    assert.match(await fault({ contents, generationConfig: { maxOutputTokens: -1 } }), /^generationConfig\.maxOutputTokens: /)
    assert.match(await fault({ contents, generationConfig: { maxOutputTokens: 5, max_output_tokens: 9 } }), /given once/)
    assert.match(await fault({ contents, generationConfig: {}, generation_config: {} }), /given once/)
    assert.match(await fault({ contents }, '/v1beta/models'), /^model: /)
  })

  test('a name must be spelled in one of the two ways that are known, and be there once', async () => {
    await read({ contents, generation_config: { max_output_tokens: 5 }, system_instruction: { parts: [] }, Unknown: 1 })
    for (const [spelled, name] of [
      ['Contents', 'contents'],
      ['CONTENTS', 'contents'],
    ] as const)
      assert.equal(await fault({ [spelled]: contents }), `${spelled}: "${spelled}" must be spelled "${name}"`)
    for (const name of ['generationConfig', 'systemInstruction', 'cachedContent', 'serviceTier', 'toolConfig'])
      for (const spelled of [name.toLowerCase(), name.toUpperCase(), name.replace(/[A-Z]/, (letter) => `_${letter}`)]) {
        assert.equal(await fault({ contents, [spelled]: {} }), `${spelled}: "${spelled}" must be spelled "${name}"`)
        assert.match(await fault({ contents, [name]: {}, [spelled]: {} }), /given once/)
      }
    for (const [spelled, name] of [
      ['MaxOutputTokens', 'maxOutputTokens'],
      ['Max_Output_Tokens', 'maxOutputTokens'],
      ['candidatecount', 'candidateCount'],
      ['re\u017fponseModalities', 'responseModalities'],
    ] as const)
      assert.equal(
        await fault({ contents, generationConfig: { [name]: 5, [spelled]: 9 } }),
        `generationConfig.${spelled}: "generationConfig.${spelled}" must be spelled "${name}"`,
      )
  })

  test('a config has as many members as a body has fields, at most', async () => {
    const config = (count: number): JsonObject => Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 1]))
    await read({ contents, generationConfig: config(256) })
    assert.match(await fault({ contents, generationConfig: config(257) }), /^generationConfig: /)
  })
})

describe('what changes', () => {
  test('nothing, where nothing is to change', async () => {
    const request = await read(' { "contents" : [ {"parts":[{"text":"a"}]} ] , "generationConfig" : { "maxOutputTokens" : 7 } } ')
    assert.equal(geminiWire.render(request, {}), request.body)
    assert.equal(
      geminiWire.render(request, { outputLimit: { field: request.outputField, tokens: 7 } }).toString(),
      Buffer.from(request.body).toString(),
    )
  })

  test('the bound goes into the config that is there, in its own spelling', async () => {
    const limit = { outputLimit: { field: 'generationConfig.maxOutputTokens', tokens: 9 } }
    const bytes = async (body: string): Promise<string> => geminiWire.render(await read(body), limit).toString()
    const text = '"contents":[{"parts":[{"text":"a"}]}]'
    assert.equal(await bytes(`{${text}}`), `{${text},"generationConfig":{"maxOutputTokens":9}}`)
    assert.equal(await bytes(`{${text},"generationConfig":null}`), `{${text},"generationConfig":{"maxOutputTokens":9}}`)
    assert.equal(
      await bytes(`{"generation_config":{ "top_k" :3},${text}}`),
      `{"generation_config":{ "top_k" :3,"maxOutputTokens":9},${text}}`,
    )
    assert.equal(
      await bytes(`{${text},"generationConfig":{"max_output_tokens":50,"seed":1}}`),
      `{${text},"generationConfig":{"max_output_tokens":9,"seed":1}}`,
    )
    assert.equal(
      await bytes(`{${text},"generationConfig":{"a\\"b":1,"maxOutputTokens": 50 }}`),
      `{${text},"generationConfig":{"a\\"b":1,"maxOutputTokens": 9 }}`,
    )
  })

  test('tools that the provider runs are not offered any more when tools are refused', async () => {
    const both = await read({ contents, tools: [{ functionDeclarations: [{ name: 'look' }], google_search: {} }, { codeExecution: {} }] })
    const refused = rendered(both, { toolChoice: 'none' })
    assert.deepEqual(refused['tools'], [{ functionDeclarations: [{ name: 'look' }] }])
    assert.deepEqual(refused['toolConfig'], { functionCallingConfig: { mode: 'NONE' } })
    const searching = await read({ contents, tools: { googleSearch: {} } })
    assert.deepEqual([searching.tools, searching.toolsRefused], ['offered', false])
    assert.deepEqual(rendered(searching, { toolChoice: 'none' }), { contents })
  })

  test('refused functions are called no more; what else the tool config says stays', async () => {
    const config = { functionCallingConfig: { mode: 'AUTO', allowedFunctionNames: ['look'] }, retrievalConfig: { languageCode: 'de' } }
    const request = await read({ contents, tools: [look], toolConfig: config })
    assert.deepEqual(rendered(request, { toolChoice: 'none' })['toolConfig'], {
      retrievalConfig: { languageCode: 'de' },
      functionCallingConfig: { mode: 'NONE' },
    })
    assert.deepEqual(rendered(await read({ contents, tools: [look] }), { toolChoice: 'none' })['toolConfig'], {
      functionCallingConfig: { mode: 'NONE' },
    })
    const without = await read({ contents })
    assert.equal(geminiWire.render(without, { toolChoice: 'none' }), without.body, 'the provider refuses a mode without functions')
  })

  test('messages are written as they are, the system instruction in its own field', async () => {
    const request = await read({
      system_instruction: { parts: { text: 'Be brief.' } },
      contents: [hi, { role: 'model', parts: [{ text: 'Yes?' }] }, hi],
    })
    assert.deepEqual(
      request.messages.map(({ role }) => role),
      ['system', 'user', 'assistant', 'user'],
    )
    const [system, , ...rest] = request.messages
    assert.ok(system)
    const changed = system.withTexts(['Be long.'])
    assert.ok(changed)
    const body = rendered(request, { messages: [changed, request.own('user', '[left out]'), ...rest] })
    assert.deepEqual(body['system_instruction'], { parts: [{ text: 'Be long.' }] })
    assert.deepEqual(body['contents'], [
      { role: 'user', parts: [{ text: '[left out]' }] },
      { role: 'model', parts: [{ text: 'Yes?' }] },
      hi,
    ])
  })

  test('another model goes into the path, with its name escaped and the query kept', () => {
    const call = callAt('/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse&key=k')
    assert.equal(geminiWire.path(call, {}), call.path)
    assert.equal(
      geminiWire.path(call, { model: 'gemini-2.5-flash' }),
      '/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=k',
    )
    assert.equal(geminiWire.path(call, { model: 'a/b?c' }), '/v1beta/models/a%2Fb%3Fc:streamGenerateContent?alt=sse&key=k')
  })

  test('a level of thinking stays behind where the other model knows only budgets', async () => {
    const generationConfig = { thinkingConfig: { thinkingLevel: 'LOW', includeThoughts: true } }
    const request = await read({ contents, generationConfig }, PATH.replace('2.5-flash', '3-flash-preview'))
    assert.deepEqual(rendered(request, { model: 'gemini-2.5-flash-lite' })['generationConfig'], {
      thinkingConfig: { includeThoughts: true },
    })
    assert.equal(geminiWire.render(request, { model: 'gemini-3.5-flash' }), request.body)
    assert.deepEqual(rendered(request, { drop: ['generationConfig.thinkingConfig'] })['generationConfig'], {})
  })

  test('a budget of thinking shrinks with the bound of the output, down to the least of its model, and fits another model', async () => {
    const budgetOf = async (model: string, thinkingBudget: unknown, tokens: number | null, to?: string): Promise<unknown> => {
      const generationConfig = { thinkingConfig: { includeThoughts: true, thinkingBudget }, maxOutputTokens: 60_000 }
      const request = await read({ contents, generationConfig }, PATH.replace('gemini-2.5-flash', model))
      const outputLimit = tokens === null ? {} : { outputLimit: { field: 'generationConfig.maxOutputTokens', tokens } }
      const sent = rendered(request, { ...outputLimit, ...(to === undefined ? {} : { model: to }) })[
        'generationConfig'
      ] as typeof generationConfig
      assert.equal(sent.thinkingConfig.includeThoughts, true)
      return sent.thinkingConfig.thinkingBudget
    }
    const [pro, flash, lite, third] = ['gemini-2.5-pro', 'gemini-2.5-flash', 'gemini-2.5-flash-lite', 'gemini-3-pro-preview']
    assert.equal(await budgetOf(pro, 24_576, 8_977), 8_721)
    assert.equal(await budgetOf(pro, '24576', 8_977), 8_721, 'as text, too')
    assert.equal(await budgetOf(pro, 8_000, 8_977), 8_000, 'which fits')
    assert.equal(await budgetOf(pro, -1, 8_977), -1, 'as the model likes')
    assert.deepEqual([await budgetOf(pro, 4_096, 300), await budgetOf(third, 4_096, 300)], [128, 128])
    assert.deepEqual([await budgetOf(lite, 4_096, 768), await budgetOf(lite, 4_096, 767)], [512, 0], 'less than its least is none')
    assert.deepEqual([await budgetOf(flash, 4_096, 257), await budgetOf(flash, 4_096, 256)], [1, 0])
    assert.deepEqual([await budgetOf(pro, 32_768, null, flash), await budgetOf(flash, 0, null, pro)], [24_576, 128])
    assert.deepEqual([await budgetOf(flash, 100, null, lite), await budgetOf(flash, 0, null, lite)], [512, 0])
    assert.equal(await budgetOf(pro, 32_768, 5_256, flash), 5_000)
    const generationConfig = { thinking_config: { thinking_budget: 9_000 } }
    const limit = { outputLimit: { field: 'generationConfig.maxOutputTokens', tokens: 2_256 } }
    const sent = rendered(await read({ contents, generationConfig }), limit)['generationConfig']
    assert.deepEqual(sent, { thinking_config: { thinkingBudget: 2_000 }, maxOutputTokens: 2_256 })
  })

  test('a prompt of ours goes the way of the app’s own calls, with the least thinking', () => {
    const task = { system: 'Sum up.', user: 'Text', maxTokens: 90 }
    const asked = geminiWire.prompt({
      ...task,
      model: 'gemini-2.5-flash-lite',
      call: callAt('/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse&key=k'),
    })
    assert.equal(asked?.path, '/v1beta/models/gemini-2.5-flash-lite:generateContent?key=k')
    assert.deepEqual(JSON.parse(asked?.body.toString() ?? ''), {
      systemInstruction: { parts: [{ text: 'Sum up.' }] },
      contents: [{ role: 'user', parts: [{ text: 'Text' }] }],
      generationConfig: { maxOutputTokens: 90, thinkingConfig: { thinkingBudget: 0 } },
    })
    assert.equal(
      geminiWire.prompt({ ...task, model: 'm', call: callAt('/v1beta/models/x:streamGenerateContent?alt=sse') })?.path,
      '/v1beta/models/m:generateContent',
    )
  })

  test('whatever the config holds, only the bound in it changes', () =>
    fc.assert(
      fc.asyncProperty(objectTexts(), async (config) => {
        const body = `{"generationConfig":${config},"contents":[{"parts":[{"text":"a"}]}]}`
        const parsed = await geminiWire.parse(Buffer.from(body), callAt(PATH))
        if (parsed.status !== 'ok') return
        const bytes = geminiWire.render(parsed.request, { outputLimit: { field: 'generationConfig.maxOutputTokens', tokens: 9 } })
        const expected = { ...(JSON.parse(config) as object), maxOutputTokens: 9 }
        assert.deepEqual((JSON.parse(bytes.toString()) as JsonObject)['generationConfig'], expected)
      }),
    ))
})

test('an error that speaks of calls or signatures is about our edits, any other about the model', () => {
  assert.equal(geminiWire.objection(400, 'Function call is missing a thought_signature in functionCall parts.'), 'edits')
  assert.equal(geminiWire.objection(400, 'Please ensure that the number of function response parts is equal'), 'edits')
  assert.equal(geminiWire.objection(404, 'models/x is not found'), 'swap')
  assert.equal(geminiWire.objection(429, 'function call'), null)
})

describe('the provider is asked to count', () => {
  const ask = async (body: object, path: string, change = {}): Promise<{ readonly path: string; readonly body: JsonObject }> => {
    const asked = geminiWire.counts?.ask(await read(body, path), callAt(path), change)
    assert.ok(asked !== undefined)
    return { path: asked.path, body: JSON.parse(asked.body.toString()) as JsonObject }
  }

  test('a whole request, for the model that it would go to', async () => {
    const body = { model: 'models/gemini-2.5-flash', contents, generationConfig: { maxOutputTokens: 9 } }
    assert.deepEqual(await ask(body, '/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=k'), {
      path: '/v1beta/models/gemini-2.5-flash:countTokens?key=k',
      body: { generateContentRequest: { ...body, model: 'models/gemini-2.5-flash' } },
    })
    const request = await read({ contents: [hi, { role: 'model', parts: [{ text: 'Hello' }] }, hi] })
    const swapped = await ask({ contents }, PATH, { model: 'gemini-2.0-flash', messages: request.messages.slice(2) })
    assert.equal(swapped.path, '/v1beta/models/gemini-2.0-flash:countTokens')
    assert.deepEqual(swapped.body, { generateContentRequest: { model: 'models/gemini-2.0-flash', contents } })
  })

  test('at Vertex the fields as they are, but for those that its count does not know', async () => {
    const path = '/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent'
    const asked = await ask({ contents, system_instruction: { parts: [{ text: 'Be kind.' }] }, safetySettings: [] }, path)
    assert.equal(asked.path, path.replace('generateContent', 'countTokens'))
    assert.deepEqual(asked.body, { contents, system_instruction: { parts: [{ text: 'Be kind.' }] } })
    const express = await ask({ contents, safetySettings: [] }, '/v1/publishers/google/models/gemini-2.5-flash:generateContent')
    assert.deepEqual(express, { path: '/v1/publishers/google/models/gemini-2.5-flash:countTokens', body: { contents } })
  })

  test('and its count is read', () => {
    assert.equal(geminiWire.counts?.read(Buffer.from('{"totalTokens": 31, "promptTokensDetails": []}')), 31)
    for (const text of ['{}', '{"totalTokens": -1}', '{"totalTokens": "31"}', 'x'])
      assert.equal(geminiWire.counts?.read(Buffer.from(text)), null)
  })
})
