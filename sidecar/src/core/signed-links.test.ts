import assert from 'node:assert/strict'
import { test } from 'node:test'
import { signedAs, withoutSignature } from './signed-links.ts'

const FILE = 'https://files.example/a/b.png'

test('a link counts without what signs it, however its host does that', () => {
  const queries = {
    S3: 'X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260101&X-Amz-Date=1&X-Amz-Expires=900&X-Amz-Security-Token=t&X-Amz-SignedHeaders=host&X-Amz-Signature=1',
    'S3, before': 'AWSAccessKeyId=AK&Expires=1&Signature=s%2B&x-amz-security-token=t',
    CloudFront: 'Expires=1&Signature=s~&Key-Pair-Id=K',
    'CloudFront by a policy': 'Policy=p&Signature=s&Key-Pair-Id=K',
    Google: 'X-Goog-Algorithm=GOOG4&X-Goog-Credential=c&X-Goog-Date=1&X-Goog-Expires=900&X-Goog-SignedHeaders=host&X-Goog-Signature=1',
    'Google, before': 'GoogleAccessId=g&Expires=1&Signature=s',
    Azure: 'skoid=o&sktid=t&skt=1&ske=2&sks=b&skv=2024&sp=r&st=1&se=2&spr=https&sv=2024-11-04&sr=b&sig=s%3D',
    'Azure, of an account': 'sv=2024-11-04&ss=b&srt=o&sp=r&se=2&st=1&spr=https&sig=s',
    Alibaba: 'x-oss-signature-version=OSS4&x-oss-credential=c&x-oss-date=1&x-oss-expires=9&x-oss-signature=1',
    Tencent: 'q-sign-algorithm=sha1&q-ak=a&q-sign-time=1;2&q-key-time=1;2&q-header-list=host&q-url-param-list=&q-signature=s',
    Laravel: 'expires=1&signature=s',
    Discord: 'ex=1&is=2&hm=3',
  }
  for (const [host, query] of Object.entries(queries)) {
    assert.equal(withoutSignature(`${FILE}?${query}`), FILE, host)
    assert.equal(withoutSignature(`${FILE}?versionId=7&${query}#page=2`), `${FILE}?versionId=7#page=2`, host)
    assert.equal(withoutSignature(`${FILE}?${query}&x-oss-process=image/resize`), `${FILE}?x-oss-process=image/resize`, host)
  }
})

test('what may say which file is meant counts, and so does what is no link', () => {
  for (const text of [
    `${FILE}?id=7`,
    `${FILE}?sv=7`,
    `${FILE}?sig=7`,
    `${FILE}?expires=7`,
    `${FILE}?signature=7`,
    `${FILE}?policy=7&signature=8`,
    `${FILE}?token=7&expires=8`,
    `${FILE}?ex=1&is=2`,
    `${FILE}?`,
    `${FILE}#?X-Amz-Signature=1`,
    'data:text/plain,?X-Amz-Signature=1',
    'gs://bucket/a?X-Goog-Signature=1',
    'What is https://files.example/a?X-Amz-Signature=1',
    `${FILE}?X-Amz-Signature=${'1'.repeat(20_000)}`,
  ])
    assert.equal(withoutSignature(text), text)
  assert.equal(withoutSignature(`${FILE}?policy=7&signature=8&expires=9`), `${FILE}?policy=7`)
})

test('JSON that was kept has the signatures of now, and is otherwise as it was', () => {
  const link = (signature: number, file = FILE): string => `${file}?X-Amz-Signature=${signature}`
  const now = { content: [{ url: link(2) }, { url: `${FILE}?id=7` }] }
  const text = `{"a": "${link(1).replaceAll('/', '\\/')}"},{"n":1.0,"b":["${link(1, 'https://files.example/other')}"]}`
  assert.equal(signedAs(text, now), `{"a":"${link(2)}"},{"n":1,"b":["${link(1, 'https://files.example/other')}"]}`)
  for (const same of [`{"a": "${link(2)}"}`, `{"a": "${FILE}"}`, 'http no JSON', '{"n":1.0}']) assert.equal(signedAs(same, now), same)
  assert.equal(signedAs(`{"a": "${link(1)}"}`, { content: 'a' }), `{"a": "${link(1)}"}`)
})
