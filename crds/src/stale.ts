/** What a sidecar does that has not been told for long what is in force: the operator cannot be reached, nor a mounted config read. */

/** `Continue`: it goes on with the last config that it had. `Deny`: no new calls. */
export const STALE_ACTIONS = ['Continue', 'Deny'] as const
