/**
 * The tables of the embedded store. Money is INTEGER nano-dollars, times are milliseconds since 1970 by the store's own
 * clock (`touched`, `expires`) or as they were told (`at`, `last_turn`); lists, notes and states are JSON. Days are of UTC
 * (`2026-11-24`). A tier's day may come to more than an INTEGER of ours, so its sums are digits. The account of a session has
 * the tier and the day that it counts to.
 *
 * What a user said is found by `memory_words`, which has no texts but their terms, each behind a digest of its user: so one
 * user's search cannot meet another's words. `terms` of an entry are those that it was put there under, for it must be taken
 * out by the same, whatever a later version makes of its text. What is deleted is written over. Entries of an earlier `round` than their user's are forgotten.
 *
 * Later versions add tables, add and drop indexes, and add nothing to a table that there is: files of earlier ones stay readable, and theirs to
 * those, which make the indexes anew that they know.
 *
 * Tables hold what was true after some commit (`applied` of `meta`), and the journal, played over them in order, what is
 * true now.
 */
import { LONE_PREFIX } from '../core/lone-call.ts'

export const TABLES_VERSION = 2
/** Marks a database file as ours (`PRAGMA application_id`): "FBOX". */
export const APPLICATION_ID = 0x46424f58

/** A field of a conversation's state, as indexes have it; NULL in a row that is damaged, so that it can still be dropped. */
export function stateField(name: 'tier' | 'user' | 'turns' | 'state' | 'resolution' | 'resolvedAtMs'): string {
  return `iif(json_valid(state), json_extract(state, '$.${name}'), NULL)`
}

/**
 * Whether a row is a lone call. There may be many times as many of those as of all else, so each index has either alone. SQLite takes such an
 * index only for a query that says the same: https://www.sqlite.org/partialindex.html
 */
export const LONE = `id GLOB '${LONE_PREFIX}*'`
export const NOT_LONE = `id NOT GLOB '${LONE_PREFIX}*'`

export const TABLES = `
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS accounts (
  id TEXT PRIMARY KEY, spent INTEGER NOT NULL, held INTEGER NOT NULL, held_input INTEGER NOT NULL, touched INTEGER NOT NULL,
  tier TEXT, day TEXT
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS operations (
  sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, accounts TEXT NOT NULL, hold INTEGER NOT NULL, input INTEGER NOT NULL,
  expires INTEGER NOT NULL, status TEXT NOT NULL, cost INTEGER NOT NULL, note TEXT NOT NULL, touched INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS operations_held ON operations (id) WHERE status = 'held';
CREATE TABLE IF NOT EXISTS ledger (
  sequence INTEGER PRIMARY KEY, operation TEXT NOT NULL, kind TEXT NOT NULL, accounts TEXT NOT NULL, cost INTEGER NOT NULL,
  at INTEGER NOT NULL, note TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS ledger_carried ON ledger (accounts) WHERE kind = 'carried';
CREATE TABLE IF NOT EXISTS conversations (
  sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, last_turn INTEGER NOT NULL, touched INTEGER NOT NULL
) STRICT;
DROP INDEX IF EXISTS conversations_by_turn;
DROP INDEX IF EXISTS conversations_unresolved;
CREATE INDEX IF NOT EXISTS conversations_talked ON conversations (last_turn) WHERE ${NOT_LONE};
CREATE INDEX IF NOT EXISTS conversations_lone ON conversations (last_turn) WHERE ${LONE};
CREATE INDEX IF NOT EXISTS conversations_awaiting ON conversations (${stateField('tier')}, last_turn)
  WHERE ${stateField('resolution')} IN ('none', 'reversed') AND ${NOT_LONE};
CREATE INDEX IF NOT EXISTS conversations_by_user ON conversations (${stateField('user')}) WHERE ${stateField('user')} IS NOT NULL;
CREATE TABLE IF NOT EXISTS edits (
  sequence INTEGER PRIMARY KEY, conversation TEXT NOT NULL, id TEXT NOT NULL, ready INTEGER NOT NULL, body TEXT NOT NULL,
  UNIQUE (conversation, id)
) STRICT;
CREATE TABLE IF NOT EXISTS chain (digest TEXT PRIMARY KEY, conversation TEXT NOT NULL, touched INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS contracts (hash TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS outcomes (key TEXT PRIMARY KEY, tier TEXT NOT NULL, day TEXT NOT NULL, kind TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE INDEX IF NOT EXISTS outcomes_by_day ON outcomes (day, tier);
CREATE TABLE IF NOT EXISTS tier_days (
  day TEXT NOT NULL, tier TEXT NOT NULL, name TEXT NOT NULL, sum TEXT NOT NULL, PRIMARY KEY (day, tier, name)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS tier_users (
  day TEXT NOT NULL, tier TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (day, tier, user)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS user_days (
  day TEXT NOT NULL, tier TEXT NOT NULL, user TEXT NOT NULL, spent TEXT NOT NULL, PRIMARY KEY (day, tier, user)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS memory_users (user TEXT PRIMARY KEY, round INTEGER NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS memory (
  user TEXT NOT NULL, round INTEGER NOT NULL, id TEXT NOT NULL, sequence INTEGER PRIMARY KEY, conversation TEXT NOT NULL,
  session INTEGER NOT NULL, at INTEGER NOT NULL, role TEXT NOT NULL, expires INTEGER NOT NULL, text TEXT NOT NULL,
  terms TEXT NOT NULL, UNIQUE (user, id)
) STRICT;
CREATE INDEX IF NOT EXISTS memory_by_time ON memory (user, at, id);
CREATE INDEX IF NOT EXISTS memory_by_expiry ON memory (expires);
CREATE VIRTUAL TABLE IF NOT EXISTS memory_words USING fts5 (
  terms, content = '', detail = none, tokenize = "ascii tokenchars '_'"
);
INSERT INTO memory_words (memory_words, rank) VALUES ('secure-delete', 1);
`
