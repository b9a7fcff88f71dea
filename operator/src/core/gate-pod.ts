/** A pod that must be refused where sidecars are required: as modest as a pod can be, so that nothing else refuses it. Pure. */
import { SIDECAR_CONTAINER } from '@farebox/crds/cluster.ts'
import type { Labels, Selector } from './selector.ts'
import { matches } from './selector.ts'

/** Labels that the selector matches; null: there are none. */
export function labelsFor(selector: Selector): Labels | null {
  const labels: Record<string, string> = { ...selector.matchLabels }
  for (const { key, operator } of selector.matchExpressions) {
    if (Object.hasOwn(labels, key) || (operator !== 'In' && operator !== 'Exists')) continue
    labels[key] = candidates(selector, key).find((value) => isAllowed(selector, key, value)) ?? ''
  }
  return matches(selector, labels) ? labels : null
}

/** What the label may have to be, and then more values than are forbidden. */
function candidates({ matchExpressions }: Selector, key: string): readonly string[] {
  const named = (operator: string): readonly string[] =>
    matchExpressions.flatMap((expression) => (expression.key === key && expression.operator === operator ? expression.values : []))
  return [...named('In'), 'any', ...named('NotIn').map((_, index) => `any-${index + 1}`)]
}

/** By all that the selector says of this label. */
function isAllowed({ matchExpressions }: Selector, key: string, value: string): boolean {
  return matches({ matchLabels: {}, matchExpressions: matchExpressions.filter((expression) => expression.key === key) }, { [key]: value })
}

/** A namespace may refuse a pod that asks for little, or one that does not say: the first by a LimitRange, which gives the other defaults. */
export const GATE_RESOURCES = ['Little', 'Unsaid'] as const
type GateResources = (typeof GATE_RESOURCES)[number]
const LITTLE = { cpu: '1m', memory: '1Mi' }

/**
 * A container of its own that is called like the sidecar keeps the webhook from giving it one: it is about what happens without. The label
 * that opts out would do so too, but a selector may speak of that.
 */
export function gatePod(labels: Labels, resources: GateResources = 'Little'): { readonly labels: Labels; readonly spec: object } {
  return {
    labels,
    spec: {
      automountServiceAccountToken: false,
      restartPolicy: 'Never',
      // No user: some clusters say which it may be, and nothing runs.
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: SIDECAR_CONTAINER,
          image: 'farebox.invalid/never-pulled',
          securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
          ...(resources === 'Little' ? { resources: { requests: LITTLE, limits: LITTLE } } : {}),
        },
      ],
    },
  }
}
