/** The runner itself, on a folder of tiny test files: what fails is red however it fails, and what is left out is told. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const RUN = fileURLToPath(new URL('run.ts', import.meta.url))
const IMPORTS = `import { after, before, describe, test } from 'node:test'\nimport assert from 'node:assert/strict'\n`
/** Counts each file by itself, in one process. */
const COUNT_EACH = `
  import { lastLines, newOutcome, runFiles } from ${JSON.stringify(new URL('run-files.ts', import.meta.url).href)}
  for (const file of process.argv.slice(2)) {
    const outcome = newOutcome()
    await runFiles([file], { concurrency: 1, timeoutMs: 60_000, execArgv: [] }, outcome)
    console.log(file + ': ' + lastLines(outcome).at(-1))
  }`

const PASSING = `test('passes', () => {})`
const FAILING: readonly { readonly what: string; readonly text: string; readonly counts: string }[] = [
  { what: 'a test', text: `test('no', () => assert.fail())`, counts: '0 passed, 1 failed' },
  {
    what: 'a test in suites, which count with it',
    text: `describe('outer', () => describe('inner', () => test('no', () => assert.fail())))`,
    counts: '0 passed, 1 failed',
  },
  {
    what: 'what comes after the tests of a suite',
    text: `describe('teardown', () => { ${PASSING}; after(() => assert.fail('a leak')) })`,
    counts: '1 passed, 1 failed',
  },
  {
    what: 'that of an inner suite',
    text: `describe('outer', () => describe('inner', () => { ${PASSING}; after(() => assert.fail('a leak')) }))`,
    counts: '1 passed, 1 failed',
  },
  {
    what: 'what comes before the tests of a suite, which are not run',
    text: `describe('setup', () => { before(() => assert.fail()); ${PASSING} })`,
    counts: '0 passed, 2 failed',
  },
  {
    what: 'a suite before its first test',
    text: `describe('cases', () => { for (const name of JSON.parse('{')) test(name, () => {}) })`,
    counts: '0 passed, 1 failed',
  },
  {
    what: 'a suite after its first test, which is not run',
    text: `describe('cases', () => { ${PASSING}; throw new Error('half') })`,
    counts: '0 passed, 2 failed',
  },
  { what: 'what comes after the tests of a file', text: `${PASSING}\nafter(() => assert.fail())`, counts: '1 passed, 1 failed' },
  {
    what: 'something when the tests are over',
    text: `${PASSING}\nsetTimeout(() => { throw new Error('late') }, 50)`,
    counts: '1 passed, 1 failed',
  },
  {
    what: 'a process by its exit code',
    text: `${PASSING}\nprocess.on('exit', () => { process.exitCode = 3 })`,
    counts: '1 passed, 1 failed',
  },
  { what: 'a process by a signal', text: `${PASSING}\nprocess.kill(process.pid, 'SIGKILL')`, counts: '0 passed, 1 failed' },
  { what: 'a file that cannot be loaded', text: `throw new Error('at load')`, counts: '0 passed, 1 failed' },
]

let folder: string
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'farebox-runner-'))
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  writeFileSync(join(folder, 'count-each.ts'), COUNT_EACH)
})
after(() => rmSync(folder, { recursive: true }))

/** Writes test files below `test/PART/`, and gives their paths from the folder. */
function write(part: string, texts: Readonly<Record<string, string>>): readonly string[] {
  mkdirSync(join(folder, 'test', part), { recursive: true })
  return Object.entries(texts).map(([name, text]) => {
    const path = `test/${part}/${name}.test.ts`
    writeFileSync(join(folder, path), `${IMPORTS}${text}\n`)
    return path
  })
}

function node(...args: readonly string[]): { readonly code: number | null; readonly output: string } {
  // Within a test file Node's runner runs no files.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const options = { cwd: folder, encoding: 'utf8', env } as const
  const { status, stdout, error } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], options)
  assert.equal(error, undefined)
  return { code: status, output: stdout }
}

/** As `make test` runs all of them. */
function run(part: string): { readonly code: number | null; readonly lastLines: readonly string[] } {
  const { code, output } = node(RUN, `test/${part}/`)
  const lines = output.trimEnd().split('\n')
  const first = lines.findIndex((line) => /^(skipped: |\d+ passed, \d+ failed$)/.test(line))
  assert.ok(first >= 0, output)
  return { code, lastLines: lines.slice(first).map((line) => line.replaceAll(`test/${part}/`, '')) }
}

describe('a run', () => {
  test('counts what fails, however it fails', () => {
    const files = write('each', Object.fromEntries(FAILING.map(({ text }, index) => [`${index}`, text])))
    const { output } = node(join(folder, 'count-each.ts'), ...files)
    for (const [index, { what, counts }] of FAILING.entries()) {
      const [line] = output.split('\n').filter((line) => line.startsWith(`${files[index]}: `))
      assert.equal(line, `${files[index]}: ${counts}`, what)
    }
  })

  test('is red when only what comes after tests fails', () => {
    write('red', { passing: PASSING, leak: `describe('teardown', () => { ${PASSING}; after(() => assert.fail('a leak')) })` })
    assert.deepEqual(run('red'), { code: 1, lastLines: ['2 passed, 1 failed'] })
  })

  test('is green with tests left out, and tells them: suites, tests and files, by name and reason, and how many', () => {
    write('green', {
      suites: `describe('on Redis', { skip: 'there is no redis-server' }, () => { test('one', () => {}); test('two', () => {}) })
        describe('on both', () => { describe('recorded', { skip: true }, () => test('one', () => {})) })`,
      tests: `test('on a node', (context) => context.skip('there is no node'))\n${PASSING}`,
      whole: `if (process.pid === 0) test('one', () => {})`,
    })
    const { code, lastLines } = run('green')
    assert.equal(code, 0)
    assert.deepEqual(lastLines.slice(0, -2).toSorted(), [
      'skipped: on Redis (suites.test.ts): there is no redis-server',
      'skipped: on a node (tests.test.ts): there is no node',
      'skipped: recorded (suites.test.ts)',
      'skipped: whole.test.ts: it holds no test here',
    ])
    assert.deepEqual(lastLines.slice(-2), ['4 skipped', '1 passed, 0 failed'])
  })

  test('is red when all was left out', () => {
    write('none', { suites: `describe('on Redis', { skip: 'there is no redis-server' }, () => test('one', () => {}))` })
    const { code, lastLines } = run('none')
    assert.equal(code, 1)
    assert.equal(lastLines.at(-1), '0 passed, 0 failed')
  })
})
