import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { lookIntoFolder, readManifestFolder, watchManifestFolder } from './manifest-folder.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'farebox-folder-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const write = (name: string, text: string | Uint8Array): void => writeFileSync(join(folder, name), text)
async function namesIn(path: string = folder): Promise<readonly string[]> {
  return (await readManifestFolder(path)).map((file) => file.path.slice(path.length + 1))
}

test('manifests come in order of path, from folders below too; what is hidden or no manifest is left alone', async () => {
  for (const below of ['b', '.git', 'node_modules', 'c.yaml']) mkdirSync(join(folder, below))
  for (const name of ['z.json', 'a.yaml', 'b/x.yml', '.hidden.yaml', '.git/x.yaml', 'node_modules/x.yaml', 'README.md', 'c.yaml/x.yaml'])
    write(name, 'a: 1')
  assert.deepEqual(await namesIn(), ['a.yaml', 'b/x.yml', 'c.yaml/x.yaml', 'z.json'])
})

test('links are followed, to folders too, but not for ever; a mounted ConfigMap is read once', async () => {
  mkdirSync(join(folder, '..2026'))
  write('..2026/a.yaml', 'a: 1')
  symlinkSync('..2026', join(folder, '..data'))
  symlinkSync('..data/a.yaml', join(folder, 'a.yaml'))
  mkdirSync(join(folder, '.elsewhere'))
  write('.elsewhere/b.yaml', 'b: 1')
  symlinkSync('.elsewhere', join(folder, 'linked'))
  symlinkSync('.', join(folder, 'loop'))
  symlinkSync('nowhere', join(folder, 'none-of-ours'))
  assert.deepEqual(await namesIn(), ['a.yaml', 'linked/b.yaml'])
})

test('a file that several links lead to is read once', async () => {
  mkdirSync(join(folder, 'b'))
  write('b/x.yaml', 'a: 1')
  symlinkSync('b', join(folder, 'a'))
  symlinkSync('b/x.yaml', join(folder, 'c.yaml'))
  assert.deepEqual(await namesIn(), ['a/x.yaml'])
})

test('a folder that is left out holds no manifests, and no change in it is told', async () => {
  mkdirSync(join(folder, 'data'))
  write('a.yaml', 'a: 1')
  write('data/sidecar.json', '{}')
  const options = { leaveOut: join(folder, 'b', '..', 'data') }
  assert.deepEqual(
    (await readManifestFolder(folder, options)).map((file) => file.path),
    [join(folder, 'a.yaml')],
  )
  const seen: string[] = []
  const watching = await watchManifestFolder(
    folder,
    () => {
      seen.push('change')
      return Promise.resolve('taken')
    },
    options,
  )
  try {
    write('data/sidecar.json', '{ "a": 1 }')
    await sleep(500)
    assert.deepEqual(seen, [])
  } finally {
    watching.stop()
  }
})

test('what cannot be read is told by its own path', async () => {
  const told = async (path: string = folder): Promise<string> =>
    readManifestFolder(path).then(
      () => 'read',
      (error: Error) => error.message.replace(folder, ''),
    )
  assert.equal(await told(), ': must hold at least one .yaml, .yml or .json file')
  write('good.yaml', 'a: 1')
  symlinkSync('nowhere', join(folder, 'a.yaml'))
  assert.equal(await told(), '/a.yaml: no such file or folder')
  rmSync(join(folder, 'a.yaml'))
  write('latin1.yaml', Uint8Array.of(0x61, 0x3a, 0x20, 0xf6))
  assert.equal(await told(), '/latin1.yaml: must be UTF-8')
  write('latin1.yaml', 'x'.repeat(4 * 1024 * 1024 + 1))
  assert.equal(await told(), '/latin1.yaml: must be smaller than 4 MiB')
  assert.equal(await told(join(folder, 'nowhere')), '/nowhere: no such file or folder')
  const server = createServer().listen(join(folder, 'socket'))
  await once(server, 'listening')
  assert.equal(await told(join(folder, 'socket')), '/socket: must be a folder or a file')
  server.close()
})

test('what cannot be read hides nothing of the rest', async () => {
  mkdirSync(join(folder, 'b'))
  write('a.yaml', 'a: 1')
  write('b/x.yaml', Uint8Array.of(0xf6))
  write('c.yaml', 'c: 1')
  symlinkSync('c.yaml', join(folder, 'd.yaml'))
  symlinkSync('nowhere', join(folder, 'e.yaml'))
  const { files, unreadable } = await lookIntoFolder(folder)
  assert.deepEqual(
    files.map(({ path }) => path.slice(folder.length + 1)),
    ['a.yaml', 'c.yaml'],
  )
  assert.deepEqual(
    unreadable.map(({ message }) => message.slice(folder.length + 1)),
    ['e.yaml: no such file or folder', 'b/x.yaml: must be UTF-8'],
  )
})

test('a change beside what cannot be read is a change', { timeout: 20_000 }, async () => {
  symlinkSync('nowhere', join(folder, 'a.yaml'))
  write('b.yaml', 'b: 1')
  const changed = Promise.withResolvers<void>()
  const watching = await watchManifestFolder(folder, () => {
    changed.resolve()
    return Promise.resolve('taken')
  })
  try {
    write('b.yaml', 'b: 22')
    await changed.promise
  } finally {
    watching.stop()
  }
})

test('a change is told once within a second, however it is made; a folder that comes back is a change', async () => {
  write('a.yaml', 'a: 1')
  const seen: number[] = []
  const watching = await watchManifestFolder(folder, () => {
    seen.push(performance.now())
    return Promise.resolve('taken')
  })
  const changed = async (what: string): Promise<void> => {
    const before = seen.length
    // A second in looks of our own: while a busy machine stands still, they do too.
    for (let looks = 0; looks < 100 && seen.length === before; looks += 1) await sleep(10)
    assert.equal(seen.length, before + 1, what)
    await sleep(400)
    assert.equal(seen.length, before + 1, `${what}: once`)
  }
  try {
    write('a.yaml', 'a: 2')
    await changed('written in place')
    write('a.yaml.new', 'a: 3')
    renameSync(join(folder, 'a.yaml.new'), join(folder, 'a.yaml'))
    await changed('replaced by another file')
    utimesSync(join(folder, 'a.yaml'), new Date(), new Date())
    await changed('touched')
    renameSync(folder, `${folder}-away`)
    await changed('gone')
    renameSync(`${folder}-away`, folder)
    await changed('come back')
    write('notes.txt', 'x')
    const before = seen.length
    await sleep(400)
    assert.equal(seen.length, before, 'no manifest, no change')
  } finally {
    watching.stop()
  }
})

test('a change that could not be acted on is told again, until it is', async () => {
  write('a.yaml', 'a: 1')
  const told: string[] = []
  const watching = await watchManifestFolder(folder, () => {
    const answer = told.length === 0 ? 'again' : 'taken'
    told.push(answer)
    return Promise.resolve(answer)
  })
  try {
    write('a.yaml', 'a: 2')
    const end = performance.now() + 3_000
    while (told.length < 2 && performance.now() < end) await sleep(10)
    await sleep(400)
    assert.deepEqual(told, ['again', 'taken'])
  } finally {
    watching.stop()
  }
})
