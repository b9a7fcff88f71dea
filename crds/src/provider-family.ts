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
