import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chatWire } from '../wire/openai-chat.ts'
import { transcriptionsWire } from '../wire/audio.ts'
import { typeRead, withBodyType } from './body-type.ts'

const FORM = 'multipart/form-data; boundary=b'
const JSON_ALONE = ['content-type', 'application/json']

test('a body is what its wire reads it as, whatever it is called', () => {
  assert.equal(typeRead(transcriptionsWire, { contentType: FORM }), FORM)
  for (const contentType of ['', 'text/plain', 'application/x-www-form-urlencoded']) {
    assert.equal(typeRead(transcriptionsWire, { contentType }), 'application/json')
    assert.equal(typeRead(chatWire, { contentType }), 'application/json')
  }
  assert.equal(typeRead(chatWire, { contentType: FORM }), 'application/json')
})

test('headers that say it already are the same', () => {
  for (const said of ['application/json', 'Application/JSON', 'application/json; charset=utf-8', 'application/json;charset="UTF-8"']) {
    const headers = ['accept', '*/*', 'Content-Type', said, 'x', 'y']
    assert.equal(withBodyType(headers, 'application/json'), headers)
  }
  const headers = ['Content-Type', FORM]
  assert.equal(withBodyType(headers, FORM), headers)
})

test('JSON that is called anything else is called JSON, once', () => {
  for (const said of [
    'application/x-www-form-urlencoded',
    FORM,
    'text/plain',
    'application/vnd.api+json',
    'application/json; charset=utf-16',
    'application/json; x=form',
    'application/json, application/x-www-form-urlencoded',
    '',
  ])
    assert.deepEqual(withBodyType(['a', 'b', 'Content-Type', said, 'c', 'd'], 'application/json'), ['a', 'b', 'c', 'd', ...JSON_ALONE])
  assert.deepEqual(withBodyType([], 'application/json'), JSON_ALONE)
  for (const other of ['application/json', 'application/x-www-form-urlencoded'])
    assert.deepEqual(withBodyType(['content-type', 'application/json', 'Content-Type', other], 'application/json'), JSON_ALONE)
})

test('a form that is called several things is called the one by which it was read', () => {
  assert.deepEqual(withBodyType(['content-type', FORM, 'content-type', 'application/json'], FORM), ['content-type', FORM])
})
