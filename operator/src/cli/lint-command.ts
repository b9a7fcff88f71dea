/** `farebox lint`: what an API server and compile would say of manifests, a line each; nothing when all is well. */
import type { Command } from 'commander'
import { Option } from 'commander'
import { formatComplaint, loadManifests } from '../laptop/loaded-manifests.ts'
import type { Complaint } from '../laptop/loaded-manifests.ts'
import { lookIntoFolder } from '../laptop/manifest-folder.ts'
import type { FolderReading, ManifestFile } from '../laptop/manifest-folder.ts'
import { readPipe } from '../laptop/piped-manifest.ts'
import { Unreadable } from '../laptop/unreadable.ts'

export function addLintCommand(program: Command): void {
  program
    .command('lint')
    .summary('check manifests: schemas, rules, YAML traps, missing numbers')
    .description(
      'Checks manifests as a cluster would. Says one line for each problem, with file, line and field; nothing when all is well.\n' +
        'What a tool renders is checked as it comes out: kustomize build overlays/prod | farebox lint -',
    )
    .argument('<paths...>', 'folders or files; -: standard input')
    .addOption(new Option('--output <format>', 'how to say it').choices(['text', 'json']).default('text'))
    .addHelpText('after', '\nEnds with 1 when there is an error; a warning alone is none.')
    .action(async (paths: readonly string[], options: { readonly output: string }) => {
      const complaints = await lint(paths)
      if (options.output === 'json') process.stdout.write(`${JSON.stringify(complaints, null, 2)}\n`)
      else for (const complaint of complaints) process.stdout.write(`${formatComplaint(complaint)}\n`)
      if (complaints.some(({ severity }) => severity === 'error')) process.exitCode = 1
    })
}

/** In order of file and line, after what cannot be read. Files that are named twice, or that several links lead to, are read once. */
export async function lint(paths: readonly string[]): Promise<readonly Complaint[]> {
  const files = new Map<string, ManifestFile>()
  const unreadable: Complaint[] = []
  for (const path of paths) {
    const found = await lookInto(path)
    for (const file of found.files) if (!files.has(file.realPath)) files.set(file.realPath, file)
    for (const { path: file, problem } of found.unreadable)
      unreadable.push({ severity: 'error', file, line: 0, field: '', message: problem })
  }
  if (files.size === 0) return unreadable
  const result = loadManifests([...files.values()], { nowMs: Date.now() })
  // What files say of each other is not judged where one of them may be what cannot be read.
  const found = result.status === 'invalid' ? result.complaints : unreadable.length > 0 ? [] : result.loaded.complaints
  return [...unreadable, ...found.toSorted((a, b) => (a.file === b.file ? a.line - b.line : a.file < b.file ? -1 : 1))]
}

async function lookInto(path: string): Promise<FolderReading> {
  try {
    const piped = await readPipe(path)
    return piped === null ? await lookIntoFolder(path) : { files: [piped], unreadable: [] }
  } catch (error) {
    if (error instanceof Unreadable) return { files: [], unreadable: [error] }
    throw error
  }
}
