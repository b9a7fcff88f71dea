/**
 * Golden renders: `NAME.in.yaml` holds values, `defaults.out.yaml` all that follows from none, every other `NAME.out.yaml` the objects
 * that its values change or add, and the names of those that they take away. `UPDATE_GOLDENS=1` writes them anew: read the diff.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { readSettings } from '@farebox/operator/settings.ts'
import type { Settings } from '@farebox/operator/settings.ts'
import { CHARTS, helm, helmOrNull, nameOf, objectsOf, podSpecOf, render, ROOT } from './helm.ts'
import type { Rendered } from './helm.ts'

const FOLDER = fileURLToPath(new URL('.', import.meta.url))
const UPDATES = process.env['UPDATE_GOLDENS'] === '1'
const CASES_MIN = 15

const helm4 = await helmOrNull(4)
const helm3 = await helmOrNull(3)
const programs = [helm4, helm3].flatMap((program) => program ?? [])
const program = programs[0]
const options = program === undefined ? { skip: 'helm is missing' } : {}
const one = program ?? ''

const names = readdirSync(FOLDER)
  .filter((file) => file.endsWith('.in.yaml'))
  .map((file) => file.slice(0, -'.in.yaml'.length))
const valuesOf = (name: string): readonly string[] => ['--values', `${FOLDER}${name}.in.yaml`]

const seen = new Map<string, string>()
/** Rendered once for all tests that look at it. */
function renderOf(name: string): string {
  const text = seen.get(name) ?? render(one, valuesOf(name))
  seen.set(name, text)
  return text
}

test('there are enough golden cases, and no output without an input', () => {
  assert.ok(names.length >= CASES_MIN, `${names.length} cases`)
  const outputs = readdirSync(FOLDER).filter((file) => file.endsWith('.out.yaml'))
  assert.deepEqual(outputs.toSorted(), names.map((name) => `${name}.out.yaml`).toSorted())
})

for (const name of names) {
  test(`golden: ${name}`, options, () => {
    const rendered = renderOf(name)
    const output = name === 'defaults' ? rendered : difference(renderOf('defaults'), rendered)
    const path = `${FOLDER}${name}.out.yaml`
    if (UPDATES) writeFileSync(path, output)
    sameText(output, readFileSync(path, 'utf8'))
  })

  // The two differ in the empty line before a document, and in where kinds that they do not know stand, such as cert-manager's.
  test(`T35: ${name} is the same bytes each time, and the same documents by Helm 3 and by Helm 4`, options, () => {
    sameText(render(one, valuesOf(name)), renderOf(name))
    for (const other of programs.slice(1)) {
      const [first, second] = [one, other].map((each) =>
        documentsOf(render(each, valuesOf(name)))
          .toSorted()
          .join(''),
      )
      sameText(first ?? '', second ?? '')
    }
  })

  test(`${name} passes helm lint --strict`, options, () => {
    const { code, stdout, stderr } = helm(one, ['lint', '--strict', `${CHARTS}farebox`, ...valuesOf(name)])
    assert.equal(code, 0, stdout + stderr)
  })

  test(`${name}: each object is named once, is labelled, and stays in the namespace of the release`, options, () => {
    const objects = objectsOf(renderOf(name))
    const ids = objects.map((object) => `${object.apiVersion} ${nameOf(object)} ${object.metadata.namespace ?? ''}`)
    assert.equal(new Set(ids).size, ids.length)
    for (const object of objects) {
      assert.equal(object.metadata.labels?.['app.kubernetes.io/part-of'], 'farebox', nameOf(object))
      // Else the operator would take it for one of the config maps that it writes.
      assert.equal(object.metadata.labels?.['app.kubernetes.io/managed-by'], 'Helm', nameOf(object))
      assert.ok(isClusterScoped(object) || object.metadata.namespace !== undefined, `${nameOf(object)} says its namespace`)
    }
  })
}

/** Fails with the first line that differs: the whole would fill the screen. */
function sameText(actual: string, expected: string): void {
  if (actual === expected) return
  const [lines, wanted] = [actual.split('\n'), expected.split('\n')]
  const index = lines.findIndex((line, at) => line !== wanted[at])
  assert.fail(`line ${index + 1} is ${JSON.stringify(lines[index])}, not ${JSON.stringify(wanted[index])}`)
}

for (const name of names) {
  test(`${name}: the operator understands the environment that it is given`, options, () => {
    const settings = settingsOf(renderOf(name))
    assert.equal(settings.webhookName, 'farebox')
    assert.match(settings.deliveryUrl, /^https:\/\/farebox-operator[.]farebox-system[.]svc:9444$/)
  })
}

test('quantities of the sidecar may be numbers', options, () => {
  const { limits } = settingsOf(render(one, ['--set', 'sidecar.resources.limits.cpu=2'])).sidecar.resources
  assert.deepEqual(limits, { cpu: '2', memory: '256Mi' })
})

test('the page of the installation names each image as the chart does, where all are from one registry', options, () => {
  const page = readFileSync(`${ROOT}docs/install.md`, 'utf8')
  const images = render(one, ['--set', 'imageRegistry=registry.example.com/team']).match(/registry[.]example[.]com[^"\s]+/g) ?? []
  const [valkey, ...more] = new Set(images.filter((image) => image.includes('valkey')))
  assert.deepEqual(more, [])
  assert.ok(page.includes(`\`${valkey}\``), valkey)
})

function settingsOf(rendered: string): Settings {
  const deployment = objectsOf(rendered).find((object) => nameOf(object) === 'Deployment/farebox-operator')
  const [container] = (deployment && podSpecOf(deployment))?.containers ?? []
  // The kubelet fills in those without a value.
  return readSettings(Object.fromEntries((container?.env ?? []).map(({ name, value }) => [name, value ?? 'filled-in'])))
}

test('T76: the page of operations lists the rights of the operator, all of them', options, () => {
  const page = readFileSync(`${ROOT}docs/operations.md`, 'utf8')
  const listed = [...page.matchAll(/^\| ([a-z, ]+) (`.*?) \| (cluster|own namespace) \|/gm)].map(([, verbs = '', of = '', where = '']) => {
    const [things = '', names = ''] = of.split(' named ')
    return rightOf(where, verbs.split(', '), quoted(things), quoted(names))
  })
  const granted = objectsOf(renderOf('defaults'))
    .filter(({ kind, metadata }) => kind.endsWith('Role') && metadata.name === 'farebox-operator')
    .flatMap(({ kind, rules }) =>
      (rules as readonly Readonly<Record<string, readonly string[]>>[]).map(
        ({ verbs = [], resources, nonResourceURLs, resourceNames = [] }) =>
          rightOf(kind === 'ClusterRole' ? 'cluster' : 'own namespace', verbs, resources ?? nonResourceURLs ?? [], resourceNames),
      ),
    )
  assert.deepEqual(listed.toSorted(), granted.toSorted())
})

function rightOf(where: string, verbs: readonly string[], things: readonly string[], names: readonly string[]): string {
  return [where, verbs.toSorted().join(), things.toSorted().join(), names.toSorted().join()].join(' ')
}

function quoted(text: string): readonly string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word)
}

function isClusterScoped({ kind }: Rendered): boolean {
  return /^(Cluster|MutatingWebhook|ValidatingAdmission)/.test(kind)
}

/** Documents that are new or other, as they are; then the names of those that are gone. */
function difference(before: string, after: string): string {
  const old = new Set(documentsOf(before))
  const changed = documentsOf(after).filter((document) => !old.has(document))
  const present = new Set(objectsOf(after).map(nameOf))
  const gone = objectsOf(before)
    .map(nameOf)
    .filter((id) => !present.has(id))
  return [...changed, ...gone.map((id) => `---\n# Not there: ${id}\n`)].join('')
}

function documentsOf(yaml: string): readonly string[] {
  return yaml.split(/^(?=---\n)/m)
}
