/** Imports go one way: main -> controllers | webhook | proxy -> kube | store | wire | config -> core -> crds. */
const part = (path, not, comment) => ({ path, not, comment })
const rules = [
  part('^crds/', '^(operator|sidecar|test)/', 'the contract knows neither who writes it nor who reads it'),
  part('^operator/', '^(sidecar|test)/', 'operator and sidecar meet in crds/ only'),
  part('^sidecar/', '^(operator|test)/', 'operator and sidecar meet in crds/ only'),
  part('^operator/src/core/', '^operator/src/(?!core/)', 'core/ imports only core/ and crds/'),
  part('^operator/src/kube/', '^operator/src/(?!kube/|core/)', 'what talks to the API server knows none of those that have it talk'),
  part('^operator/src/certificates/', '^operator/src/(?!certificates/|kube/|core/)', 'certificates know nobody who uses them'),
  part('^operator/src/(webhook|delivery)/', '^operator/src/(controllers|cli|laptop|main)', 'servers do not know what the leader does'),
  part(
    '^operator/src/(cli|laptop)/',
    '^operator/src/(kube|controllers|webhook|delivery|certificates|main)',
    'the command line needs no cluster',
  ),
  part('^sidecar/src/core/', '^sidecar/src/(?!core/|errors[.]ts$)', 'core/ imports only core/, crds/ and the error table'),
  part('^sidecar/src/wire/', '^sidecar/src/(?!wire/|core/)', 'a format is read and written without anything that runs'),
  part(
    '^sidecar/src/((store|config|delivery|telemetry)/|settings[.]ts$)',
    '^sidecar/src/(proxy|main)',
    'what is below the proxy does not know it',
  ),
]

/** Tests, and what only they import. */
const TESTING = '[.](test|contract|testing)[.]ts$'

module.exports = {
  forbidden: [
    ...rules.map(({ path, not, comment }, index) => ({
      name: `one-way-${index}`,
      comment,
      severity: 'error',
      from: { path, pathNot: '[.]test[.]ts$' },
      to: { path: not },
    })),
    {
      name: 'no-testing',
      severity: 'error',
      comment: 'no program imports what is there for tests',
      from: { path: '^(crds|operator|sidecar)/', pathNot: TESTING },
      to: { path: TESTING },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } } },
    {
      name: 'no-kubernetes-client',
      severity: 'error',
      comment: 'only operator/src/kube/ imports it',
      from: { pathNot: '^operator/src/kube/' },
      to: { path: 'node_modules/@kubernetes/client-node' },
    },
    {
      name: 'lean-sidecar',
      severity: 'error',
      comment: 'each import has a price in memory',
      from: { path: '^sidecar/src/', pathNot: '[.]test[.]ts$' },
      to: { path: 'node_modules/(express|openai|@kubernetes)/' },
    },
    { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^|/)dist/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
      extensions: ['.ts', '.mjs', '.js', '.json'],
    },
  },
}
