/**
 * The fields of a conversation's record in Redis, one line each, in this order. Scripts and codec take them from here. New
 * ones are added at the end: a record of an earlier version lacks them, and they are empty in it until it is written again.
 */
export const FIELDS = [
  'touched',
  'tier',
  'contractHash',
  'contractPinnedAtMs',
  'user',
  'session',
  'startedAtMs',
  'lastTurnAtMs',
  'turns',
  'rungs',
  'reason',
  'ladderApplies',
  'state',
  'exactAtMs',
  'exactMessages',
  'exact',
  'userPeriod',
  'userRungs',
  'alerts',
  'notices',
  'atTaskBoundary',
  'drivers',
  'resolution',
  'resolutionRound',
  'edits',
  'readyEdits',
  'userTurns',
  'resolvedAtMs',
  'stateAtMs',
  'boundaryAtMs',
  'question',
  'turnRungs',
  'alertsPeriod',
  'userAlerts',
  'earlierAlerts',
] as const
/** So many of them are in the record of the earliest version that is read. */
export const FIRST_FIELDS = FIELDS.indexOf('userTurns')
export type Field = (typeof FIELDS)[number]
