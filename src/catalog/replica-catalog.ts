/** The catalog of a replica site, as its activities and its receiver use it. */
import { type Database, guarded } from './database.ts';
import { CHAIN_LIMIT, createChainRows } from './replica-chains.ts';
import { createComparisonRows } from './replica-comparison.ts';
import { createDeletionRows } from './replica-deletion.ts';
import { createEpochRows } from './replica-epochs.ts';
import { createGivingUpRows } from './replica-giving-up.ts';
import { createHealthRows } from './replica-health.ts';
import { createJournalRetentionRows } from './replica-journal-retention.ts';
import { createJournalRows } from './replica-journals.ts';
import { createLayoutRows } from './replica-layouts.ts';
import { createPublicationRows } from './replica-publication.ts';
import { createScheduleRows } from './replica-schedules.ts';
import { createSessionRows } from './replica-sessions.ts';
import { createStorageFileRows } from './replica-storage-files.ts';
import { createSyncRows } from './replica-sync.ts';
import { createTaskRows } from './replica-tasks.ts';
import { createSourceClockRows } from './source-clock.ts';

export interface ReplicaCatalogOptions {
  /** This site's name. */
  readonly site: string;
  /** The absolute folder of the replicas: `<replicaRoot>/<host>/<disk>/`. */
  readonly replicaRoot: string;
  /** Chains have fewer layers than this; {@link CHAIN_LIMIT} by default. */
  readonly chainLimit?: number;
}

/**
 * The replica's catalog over `db`. All methods are idempotent.
 * Errors: SupersededError and ScheduleDeletedError by the fence, PlanBrokenError, DatabaseUnreachableError,
 * CatalogInputError; the rows' own files name theirs.
 */
export function createReplicaCatalog(db: Database, options: ReplicaCatalogOptions) {
  const { site, replicaRoot, chainLimit = CHAIN_LIMIT } = options;
  return guarded({
    ...createScheduleRows(db, site),
    ...createTaskRows(db),
    ...createSyncRows(db),
    ...createSessionRows(db),
    ...createJournalRows(db, { replicaRoot }),
    ...createEpochRows(db),
    ...createJournalRetentionRows(db),
    ...createLayoutRows(db, { replicaRoot, chainLimit }),
    ...createChainRows(db),
    ...createHealthRows(db),
    ...createComparisonRows(db, { chainLimit }),
    ...createStorageFileRows(db),
    ...createSourceClockRows(db),
    ...createPublicationRows(db),
    ...createDeletionRows(db),
    ...createGivingUpRows(db),
  });
}

export type ReplicaCatalog = ReturnType<typeof createReplicaCatalog>;
