/** The tree keeps its own rules: imports go one way, and the check that says so is not blind. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const FOLDERS = ['crds', 'operator', 'sidecar', 'test']

interface Cruise {
  readonly modules: number
  readonly violations: readonly string[]
}

function cruise(folder: string): Cruise {
  const run = spawnSync(
    process.execPath,
    [
      join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs'),
      '--config',
      join(folder, '.dependency-cruiser.cjs'),
      '--output-type',
      'json',
      ...FOLDERS,
    ],
    {
      cwd: folder,
      encoding: 'utf8',
      maxBuffer: 256 * 1024 * 1024,
    },
  )
  assert.equal(run.error, undefined)
  const { summary } = JSON.parse(run.stdout) as {
    readonly summary: {
      readonly totalCruised: number
      readonly violations: readonly { readonly from: string; readonly rule: { readonly name: string } }[]
    }
  }
  return { modules: summary.totalCruised, violations: summary.violations.map(({ from, rule }) => `${rule.name}: ${from}`) }
}

test('imports go one way, and every module was looked at', () => {
  const { modules, violations } = cruise(ROOT)
  assert.deepEqual(violations, [])
  const files = globSync(
    FOLDERS.map((folder) => `${folder}/**/*.ts`),
    { cwd: ROOT, exclude: (name) => name === 'node_modules' },
  )
  assert.ok(modules >= files.length, `${modules} modules of ${files.length} files`)
})

const TARGETS = ['', 'proxy/', 'store/']
  .map((part) => `sidecar/src/${part}target.ts`)
  .concat(['', 'kube/', 'controllers/', 'webhook/'].map((part) => `operator/src/${part}target.ts`))
  .concat(['sidecar/src/store/target.testing.ts', 'operator/src/core/target.contract.ts'])

describe('a planted violation is caught', () => {
  const planted: Record<string, readonly [file: string, imports: string, rule: RegExp]> = {
    'crds imports the operator': ['crds/src/planted.ts', '../../operator/src/target.ts', /^one-way.*crds\/src\/planted/],
    'the operator imports the sidecar': ['operator/src/planted.ts', '../../sidecar/src/target.ts', /^one-way.*operator\/src\/planted/],
    'the sidecar imports the operator, types only': [
      'sidecar/src/planted.ts',
      '../../operator/src/target.ts',
      /^one-way.*sidecar\/src\/planted/,
    ],
    'core imports the proxy': ['sidecar/src/core/planted.ts', '../proxy/target.ts', /^one-way.*core\/planted/],
    'the store imports the proxy': ['sidecar/src/store/planted.ts', '../proxy/target.ts', /^one-way.*store\/planted/],
    'the settings import the proxy': ['sidecar/src/settings.ts', './proxy/target.ts', /^one-way.*src\/settings/],
    'a wire imports the store': ['sidecar/src/wire/planted.ts', '../store/target.ts', /^one-way.*wire\/planted/],
    'the client of the API server imports a controller': [
      'operator/src/kube/planted.ts',
      '../controllers/target.ts',
      /^one-way.*kube\/planted/,
    ],
    'certificates import the webhook': ['operator/src/certificates/planted.ts', '../webhook/target.ts', /^one-way.*certificates\/planted/],
    'the webhook imports a controller': ['operator/src/webhook/planted.ts', '../controllers/target.ts', /^one-way.*webhook\/planted/],
    'the command line imports the client of the API server': ['operator/src/cli/planted.ts', '../kube/target.ts', /^one-way.*cli\/planted/],
    'the sidecar imports what is there for tests': ['sidecar/src/planted.ts', './store/target.testing.ts', /^no-testing.*src\/planted/],
    'the operator imports what is there for tests': ['operator/src/planted.ts', './core/target.contract.ts', /^no-testing.*src\/planted/],
    'two modules import each other': ['sidecar/src/planted.ts', './target.ts', /^no-cycles.*sidecar\/src/],
    'the sidecar imports the openai client': ['sidecar/src/planted.ts', 'openai', /^lean-sidecar.*sidecar\/src\/planted/],
    'a module that is not there': ['crds/src/planted.ts', './absent.ts', /^resolvable.*crds\/src\/planted/],
  }
  for (const [name, [file, imports, rule]] of Object.entries(planted)) {
    test(name, () => {
      const folder = mkdtempSync(join(tmpdir(), 'farebox-tidy-'))
      try {
        for (const shared of ['.dependency-cruiser.cjs', 'tsconfig.json', 'package.json']) cpSync(join(ROOT, shared), join(folder, shared))
        symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
        for (const part of FOLDERS) mkdirSync(join(folder, part, 'src'), { recursive: true })
        for (const target of TARGETS) {
          mkdirSync(dirname(join(folder, target)), { recursive: true })
          const back =
            name.startsWith('two modules') && target === 'sidecar/src/target.ts'
              ? "import { planted } from './planted.ts'\nexport const again = () => planted\n"
              : ''
          writeFileSync(join(folder, target), `${back}export const target = 1\n`)
        }
        mkdirSync(dirname(join(folder, file)), { recursive: true })
        const isType = name.includes('types only')
        writeFileSync(
          join(folder, file),
          `import ${isType ? 'type ' : ''}{ target } from '${imports}'\nexport const planted = ${isType ? '(value: typeof target) => value' : '() => target'}\n`,
        )
        const { violations } = cruise(folder)
        assert.ok(
          violations.some((violation) => rule.test(violation)),
          `caught: ${violations.join(', ') || 'nothing'}`,
        )
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    })
  }
})

test('the targets of the Makefile are those that its help lists', () => {
  const makefile = readFileSync(join(ROOT, 'Makefile'), 'utf8')
  const phony = /^\.PHONY: (.*)$/m.exec(makefile)?.[1]?.split(' ') ?? []
  const listed = [...makefile.matchAll(/^([a-z0-9-]+):.*## /gm)].map((match) => match[1])
  assert.deepEqual(new Set(listed), new Set(phony))
})

test('every relative link of the pages for people leads to a file', () => {
  const pages = globSync(['README.md', 'CONTRIBUTING.md', 'docs/**/*.md', 'charts/README.md'], { cwd: ROOT })
  const broken = pages.flatMap((page) => linksOf(readFileSync(join(ROOT, page), 'utf8')).flatMap((link) => brokenLink(page, link) ?? []))
  assert.ok(pages.length >= 8, pages.join(', '))
  assert.deepEqual(broken, [])
})

/** Targets of inline links that stay in the tree. */
function linksOf(markdown: string): readonly string[] {
  const prose = markdown.replaceAll(/^```.*?^```/gms, '').replaceAll(/`[^`\n]*`/g, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target = '']) => (/^[a-z]+:|^#/.test(target) ? [] : [target]))
}

/** Null when its file and its heading are there. */
function brokenLink(page: string, link: string): string | null {
  const [path = '', anchor] = link.split('#')
  const file = join(ROOT, dirname(page), path)
  if (!existsSync(file)) return `${page}: ${link}: no such file`
  if (anchor === undefined) return null
  const headings = [...readFileSync(file, 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
  return headings.includes(anchor) ? null : `${page}: ${link}: no such heading`
}
