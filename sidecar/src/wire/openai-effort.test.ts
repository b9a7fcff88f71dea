import assert from 'node:assert/strict'
import { test } from 'node:test'
import { leastEffort } from './openai-effort.ts'

test('each family of reasoning models is asked for the least that it takes; others for nothing', () => {
  const least = {
    'gpt-5': 'minimal',
    'gpt-5-mini-2025-08-07': 'minimal',
    'gpt-5.1': 'none',
    'gpt-5.6-mini': 'none',
    o3: 'low',
    'o4-mini': 'low',
  }
  for (const [model, effort] of Object.entries(least)) assert.equal(leastEffort(model), effort, model)
  for (const model of ['gpt-4o', 'gpt-5-chat-latest', 'gpt-5-pro', 'gpt-5.1-codex', 'o1-preview', 'deepseek-reasoner', 'gpt-50'])
    assert.equal(leastEffort(model), null, model)
})
