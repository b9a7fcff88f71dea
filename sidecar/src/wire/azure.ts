/**
 * Azure OpenAI: OpenAI's formats, where the name that a call gives is that of a deployment. It stands in the path, or with the newer
 * API in the body; the config says which model each serves. https://learn.microsoft.com/azure/ai-services/openai/reference
 */
import type { ModelRequest, RequestChange } from '../core/request.ts'
import type { CallContext, InputCounts, Wire } from './wire.ts'

/** A path in front of its operation: a deployment of the older API, or the version of the newer; nothing, where all is in the body. */
const PREFIX = /^(\/openai)?(?:\/deployments\/([A-Za-z0-9._-]{1,64})|\/v1)?(?=\/)/

/** The operation that a path names, as OpenAI has it: `/chat/completions`. */
export function azureOperation(path: string): string {
  return path.replace(PREFIX, '')
}

/** The wire of OpenAI's format, for deployments. */
export function azureWire(wire: Wire): Wire {
  const { counts } = wire
  return {
    ...wire,
    ...(counts === undefined
      ? {}
      : {
          counts: {
            ...counts,
            ask(request, call, change = {}) {
              const written = WRITTEN.get(request.body) ?? request.model
              return counts.ask({ ...request, model: written }, call, inDeployments(change, written, call))
            },
          } satisfies InputCounts,
        }),
    async parse(body, call) {
      const named = PREFIX.exec(call.path)?.[2] ?? null
      const parsed = await wire.parse(body, named === null ? call : { ...call, model: named })
      if (parsed.status !== 'ok') return parsed
      const { request } = parsed
      if (request.fields.has('data_sources'))
        return { status: 'ungoverned', what: 'A request with data sources, of which the provider reads as much as it likes,' }
      const deployment = named ?? request.model
      WRITTEN.set(body, request.model)
      return {
        status: 'ok',
        request: { ...request, model: servedModel(deployment, call) },
      }
    },
    render(request, change, call) {
      const written = WRITTEN.get(request.body) ?? request.model
      return wire.render({ ...request, model: written }, inDeployments(change, written, call))
    },
    path(call, { model }) {
      const deployment = model === undefined ? null : servingOf(call, model)
      return deployment === null ? call.path : withDeployment(call.path, deployment)
    },
    prompt(task) {
      const deployment = servingOf(task.call, task.model)
      const asked = deployment === null ? null : wire.prompt({ ...task, model: deployment, served: task.model })
      if (deployment === null || asked === null) return null
      const prefix = PREFIX.exec(task.call.path)?.[0] ?? ''
      const query = task.call.path.includes('?') ? task.call.path.slice(task.call.path.indexOf('?')) : ''
      return { path: `${withDeployment(`${prefix}/`, deployment).slice(0, -1)}${asked.path}${query}`, body: asked.body }
    },
  }
}

/** The name that stands in a body, which need not be that of a model. */
const WRITTEN = new WeakMap<Uint8Array, string>()

/** What changes in the body: where the path names the deployment, the name in the body counts for nothing, and stays. */
function inDeployments({ model, ...change }: RequestChange, written: string, call: CallContext | undefined): RequestChange {
  if (model === undefined || call === undefined || PREFIX.exec(call.path)?.[2] !== undefined) return change
  return { ...change, model: servingOf(call, model) ?? written }
}

/** The model behind that name, which may be that of a deployment. */
export function servedModel(name: string, { upstream }: Pick<CallContext, 'upstream'>): string {
  return upstream.deployments.find((deployment) => deployment.name === name)?.model ?? name
}

/** The deployment that serves a model; null where none does. */
function servingOf({ upstream }: CallContext, model: ModelRequest['model']): string | null {
  const { deployments } = upstream
  return (deployments.find((deployment) => deployment.model === model) ?? deployments.find(({ name }) => name === model))?.name ?? null
}

function withDeployment(path: string, deployment: string): string {
  return path.replace(PREFIX, (prefix: string, root: string | undefined, named: string | undefined) =>
    named === undefined ? prefix : `${root ?? ''}/deployments/${deployment}`,
  )
}
