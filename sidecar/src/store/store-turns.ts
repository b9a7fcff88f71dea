/** How the parts of the embedded store read and write between its steps. Each rejects as the store does. */
export interface StoreTurns {
  /** Runs a step now; answers when it is committed. */
  readonly step: <T>(run: () => T) => Promise<T>
  /** Reads now. */
  readonly look: <T>(run: () => T) => Promise<T>
  /** Reads when it is the turn of the next page. */
  readonly page: <T>(run: () => T) => Promise<T>
  /** Reads once the tables have all that was committed before. */
  readonly query: <T>(run: () => T) => Promise<T>
}
