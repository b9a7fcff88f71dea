/** A test that judges by time prints this when all that is left of it is to wait: from then on others may run beside it. */
export const ONLY_WAITS = 'all that is left is to wait'
