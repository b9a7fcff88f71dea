/** The charts as Helm renders them. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { loadAll } from 'js-yaml'
import { helmProgram, ProgramsMissing } from '../cluster/programs.ts'
import type { HELM } from '../cluster/programs.ts'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))
export const CHARTS = `${ROOT}charts/`
export const NAMESPACE = 'farebox-system'

export interface Rendered {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly [field: string]: unknown
}

export interface PodSpec {
  readonly containers: readonly { readonly env?: readonly { readonly name: string; readonly value?: string }[] }[]
  readonly volumes?: readonly { readonly name: string }[]
}

export interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Null where it is missing and cannot be built: its tests are left out, and a line says why. In CI that is an error. */
export async function helmOrNull(major: keyof typeof HELM): Promise<string | null> {
  try {
    return await helmProgram(major)
  } catch (error) {
    if (!(error instanceof ProgramsMissing) || (process.env['CI'] ?? '') !== '') throw error
    console.log(`${error.message}: the tests that need Helm ${major} are left out`)
    return null
  }
}

export function helm(program: string, args: readonly string[]): Outcome {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    encoding: 'utf8',
    cwd: ROOT,
    timeout: 60_000,
    env: quietEnvironment(),
  })
  if (error !== undefined) throw error
  return { code: status ?? -1, stdout, stderr }
}

/** The text of `helm template`, in the spelling of Helm 3: Helm 4 sets an empty line before each document. */
export function render(program: string, more: readonly string[] = [], chart = 'farebox'): string {
  const { code, stdout, stderr } = helm(program, ['template', 'farebox', `${CHARTS}${chart}`, '--namespace', NAMESPACE, ...more])
  if (code !== 0) throw new Error(stderr)
  return `${stdout.replaceAll(/\n+---\n/g, '\n---\n').trimEnd()}\n`
}

export function objectsOf(yaml: string): readonly Rendered[] {
  return (loadAll(yaml) as readonly (Rendered | null)[]).flatMap((object) => object ?? [])
}

export function nameOf({ kind, metadata }: Rendered): string {
  return `${kind}/${metadata.name}`
}

/** Of a pod, or of those that a workload makes. */
export function podSpecOf({ kind, spec }: Rendered): PodSpec | null {
  if (kind === 'Pod') return spec as PodSpec
  return kind === 'Deployment' || kind === 'StatefulSet' ? (spec as { readonly template: { readonly spec: PodSpec } }).template.spec : null
}

/** No cluster of whoever runs the tests. */
function quietEnvironment(): NodeJS.ProcessEnv {
  const { KUBECONFIG: _, ...environment } = process.env
  return { ...environment, KUBECONFIG: '/dev/null' }
}
