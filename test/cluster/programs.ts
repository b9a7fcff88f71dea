/**
 * The programs that a cluster is made of: each from `KUBEBUILDER_ASSETS` where that has it (the folder of envtest: etcd, kube-apiserver,
 * kubectl), else built from pinned Go modules and kept in `$XDG_CACHE_HOME/farebox/test-cluster`.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { build, hasGo, isBuilt } from './go-build.ts'
import type { Recipe } from './go-build.ts'

export const KUBERNETES_VERSION = 'v1.36.3'
const ETCD_VERSION = 'v3.6.16'
const HELM_VERSION = 'v4.3.1'
const HELM_3_VERSION = 'v3.22.0'
const COREDNS_VERSION = 'v1.15.0'

export const CONTROL_PLANE = ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubectl'] as const
/** Without these a control plane serves, but makes no default service accounts, schedules nothing, ends no namespace. */
const OPTIONAL: readonly string[] = ['kube-controller-manager', 'kube-scheduler']
export const NODE_PROGRAMS = ['kubelet', 'kube-proxy', 'coredns', 'pause'] as const
export const HELM = { 3: 'helm3', 4: 'helm' } as const

export type ProgramName = (typeof CONTROL_PLANE)[number] | (typeof NODE_PROGRAMS)[number] | (typeof HELM)[keyof typeof HELM]
/** Where each program is. */
export type Programs = ReadonlyMap<ProgramName, string>

/** What is missing and how to get it, in one line. */
export class ProgramsMissing extends Error {}

/**
 * Finds `names`, and builds what is not there: that takes minutes, once. Where there is no Go, programs without which a control
 * plane does serve are left out; throws `ProgramsMissing` for others.
 */
export async function findPrograms(names: readonly ProgramName[], say: (line: string) => void): Promise<Programs> {
  const found = new Map<ProgramName, string>()
  for (const name of names) {
    const given = givenPath(name)
    if (given !== null) found.set(name, given)
  }
  const wanted = RECIPES.filter(({ name, aliases }) =>
    namesOf(name, aliases).some((program) => names.includes(program) && !found.has(program)),
  )
  if (wanted.some((recipe) => !isBuilt(recipe)) && !hasGo()) {
    const missing = wanted.filter((recipe) => !isBuilt(recipe)).flatMap(({ name, aliases }) => namesOf(name, aliases))
    const needed = names.filter((program) => missing.includes(program) && !found.has(program) && !OPTIONAL.includes(program))
    if (needed.length > 0) throw new ProgramsMissing(howToGet(needed))
  }
  for (const recipe of wanted) {
    if (!isBuilt(recipe) && !hasGo()) continue
    const folder = await build(recipe, say)
    for (const name of namesOf(recipe.name, recipe.aliases)) {
      if (names.includes(name) && !found.has(name)) found.set(name, join(folder, name))
    }
  }
  return found
}

/** Where `name` is. Throws a `ProgramsMissing` when `findPrograms` did not find it, or was not asked for it. */
export function pathOf(programs: Programs, name: ProgramName): string {
  const path = programs.get(name)
  if (path === undefined) throw new ProgramsMissing(howToGet([name]))
  return path
}

/** Helm of that major version. */
export async function helmProgram(major: keyof typeof HELM, say: (line: string) => void = console.log): Promise<string> {
  return pathOf(await findPrograms([HELM[major]], say), HELM[major])
}

function howToGet(names: readonly string[]): string {
  const assets = names.every((name) => name === 'etcd' || name === 'kube-apiserver' || name === 'kubectl')
  const orAssets = assets ? ', or let KUBEBUILDER_ASSETS name a folder that holds them' : ''
  return `missing: ${names.join(', ')}. Install Go (https://go.dev/dl), which builds them once${orAssets}`
}

function givenPath(name: ProgramName): string | null {
  const folder = process.env['KUBEBUILDER_ASSETS'] ?? ''
  const path = join(folder, name)
  return folder !== '' && existsSync(path) ? path : null
}

function namesOf(name: string, aliases: readonly string[]): readonly ProgramName[] {
  return (aliases.length === 0 ? [name] : aliases) as readonly ProgramName[]
}

const MINOR = KUBERNETES_VERSION.split('.')[1] ?? ''
/** Else they report no version, and clients complain. */
const KUBERNETES_STAMPS = Object.fromEntries(
  ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version'].flatMap((path) => [
    [`${path}.gitVersion`, KUBERNETES_VERSION],
    [`${path}.gitMajor`, '1'],
    [`${path}.gitMinor`, MINOR],
    [`${path}.gitTreeState`, 'clean'],
  ]),
)
const KUBERNETES = {
  version: KUBERNETES_VERSION,
  module: 'k8s.io/kubernetes',
  stagingVersion: KUBERNETES_VERSION.replace(/^v1\./, 'v0.'),
  stamps: KUBERNETES_STAMPS,
} as const

/** Several commands of Kubernetes as one program that asks its name which to be: one third of their size apart. */
function manyInOne(commands: Readonly<Record<string, GoCommand>>): { readonly source: string } {
  const imports = Object.values(commands).flatMap((command) => command.imports)
  const cases = Object.entries(commands).map(([name, { run }]) => `	case "${name}":\n		${run}`)
  return {
    source: `package main

import (
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
${imports.map((line) => `	${line}`).join('\n')}
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
${cases.join('\n')}
	default:
		fmt.Fprintln(os.Stderr, "no program is called "+name)
		os.Exit(2)
	}
}
`,
  }
}

interface GoCommand {
  readonly imports: readonly string[]
  /** What the `main` of this command does. */
  readonly run: string
}

const CONTROL_PLANE_COMMANDS: Readonly<Record<string, GoCommand>> = {
  'kube-apiserver': {
    imports: ['apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"'],
    run: 'os.Exit(cli.Run(apiserver.NewAPIServerCommand()))',
  },
  'kube-controller-manager': {
    imports: ['controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"'],
    run: 'os.Exit(cli.Run(controllers.NewControllerManagerCommand()))',
  },
  'kube-scheduler': {
    imports: ['scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"'],
    run: 'os.Exit(cli.Run(scheduler.NewSchedulerCommand()))',
  },
  kubectl: {
    imports: ['kubectl "k8s.io/kubectl/pkg/cmd"', 'kubectlutil "k8s.io/kubectl/pkg/cmd/util"'],
    run: 'kubectlutil.CheckErr(cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()))',
  },
}
const NODE_COMMANDS: Readonly<Record<string, GoCommand>> = {
  kubelet: {
    imports: ['"context"', 'kubelet "k8s.io/kubernetes/cmd/kubelet/app"'],
    run: 'os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))',
  },
  'kube-proxy': {
    imports: ['proxy "k8s.io/kubernetes/cmd/kube-proxy/app"'],
    run: 'os.Exit(cli.Run(proxy.NewProxyCommand()))',
  },
}

/** The plugins of the few lines of configuration that the node's DNS has: all of them would be four times the program. */
const COREDNS_SOURCE = `package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"

	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
`

/** First process of a pod and of the node: waits, buries the processes whose parents are gone, ends when told to. */
const PAUSE_SOURCE = `package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
`

const RECIPES: readonly Recipe[] = [
  {
    ...KUBERNETES,
    name: 'kubernetes',
    aliases: Object.keys(CONTROL_PLANE_COMMANDS),
    main: manyInOne(CONTROL_PLANE_COMMANDS),
    minutes: 6,
  },
  {
    name: 'etcd',
    version: ETCD_VERSION,
    aliases: [],
    module: 'go.etcd.io/etcd/server/v3',
    main: { package: 'go.etcd.io/etcd/server/v3' },
    stamps: {},
    minutes: 1,
  },
  {
    ...KUBERNETES,
    name: 'kubernetes-node',
    aliases: Object.keys(NODE_COMMANDS),
    main: manyInOne(NODE_COMMANDS),
    minutes: 1,
  },
  {
    name: 'coredns',
    version: COREDNS_VERSION,
    aliases: [],
    module: 'github.com/coredns/coredns',
    main: { source: COREDNS_SOURCE },
    stamps: {},
    minutes: 1,
  },
  { name: 'pause', version: '', aliases: [], main: { source: PAUSE_SOURCE }, stamps: {}, minutes: 1 },
  {
    name: 'helm',
    version: HELM_VERSION,
    aliases: [],
    module: 'helm.sh/helm/v4',
    main: { package: 'helm.sh/helm/v4/cmd/helm' },
    stamps: { 'helm.sh/helm/v4/internal/version.version': HELM_VERSION },
    minutes: 2,
  },
  {
    name: 'helm3',
    version: HELM_3_VERSION,
    aliases: [],
    module: 'helm.sh/helm/v3',
    main: { package: 'helm.sh/helm/v3/cmd/helm' },
    stamps: {
      'helm.sh/helm/v3/internal/version.version': HELM_3_VERSION,
      'helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor': '1',
      'helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor': MINOR,
    },
    minutes: 1,
  },
]
