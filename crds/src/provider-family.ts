/** How a provider is spoken to: the format of its requests and answers, by which one upstream can take over from another. */
export type Family = 'openai' | 'azure' | 'anthropic' | 'google'

/** A provider that has no format of its own speaks OpenAI's. */
export function familyOf(provider: string): Family {
  switch (provider) {
    case 'anthropic':
    case 'google':
    case 'azure':
      return provider
    default:
      return 'openai'
  }
}

/** Azure serves what was deployed; the others serve what they are asked for. */
export function serves(
  {
    provider,
    deployments,
  }: { readonly provider: string; readonly deployments: readonly { readonly name: string; readonly model: string }[] },
  model: string,
): boolean {
  return familyOf(provider) !== 'azure' || deployments.some((deployment) => deployment.model === model || deployment.name === model)
}
