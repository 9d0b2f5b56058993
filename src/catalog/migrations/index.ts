/**
 * All migrations, in order. The names have no file extension, so that a database migrated by the TypeScript
 * sources and one migrated by the compiled files agree. A released migration is never edited.
 */
import { sql as snapshots } from './0001-snapshots.ts';
import { sql as locks } from './0002-locks.ts';
import { sql as schedules } from './0003-schedules.ts';
import { sql as sealedFiles } from './0004-sealed-files.ts';
import { sql as scheduleWords } from './0005-schedule-words.ts';
import { sql as verify } from './0006-verify.ts';
import { sql as spaceAndClocks } from './0007-space-and-clocks.ts';
import { sql as comparisons } from './0008-comparisons.ts';
import { sql as lostWorkflows } from './0009-lost-workflows.ts';
import { sql as pins } from './0010-pins.ts';
import { sql as cdp } from './0011-cdp.ts';

export interface CatalogMigration {
  readonly name: string;
  readonly sql: string;
}

export const MIGRATIONS: readonly CatalogMigration[] = [
  { name: '0001-snapshots', sql: snapshots },
  { name: '0002-locks', sql: locks },
  { name: '0003-schedules', sql: schedules },
  { name: '0004-sealed-files', sql: sealedFiles },
  { name: '0005-schedule-words', sql: scheduleWords },
  { name: '0006-verify', sql: verify },
  { name: '0007-space-and-clocks', sql: spaceAndClocks },
  { name: '0008-comparisons', sql: comparisons },
  { name: '0009-lost-workflows', sql: lostWorkflows },
  { name: '0010-pins', sql: pins },
  { name: '0011-cdp', sql: cdp },
];
