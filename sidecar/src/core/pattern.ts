/** Whether a name matches a pattern: equal, or, with a trailing `*`, beginning with what stands before it. */
export function matchesPattern(pattern: string, name: string): boolean {
  return pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern
}
