/** Gives up journals that are out of the window, and removes their files. docs/decisions/0057. */
import { resolve, sep } from 'node:path';
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { removeReplicaFiles } from '../images/replica/remove.ts';
import { parseDuration } from '../lib/durations.ts';
import type { Log } from '../lib/log.ts';
import { parseSize } from '../lib/sizes.ts';

const LOOK_EVERY_MS = 60_000;

export interface RetentionInput {
  readonly catalog: Pick<ReplicaCatalog, 'giveUpJournals' | 'journalsToRemove' | 'noteJournalRemoved'>;
  readonly node: string;
  readonly replicaRoot: string;
  /** Null for no window. */
  readonly keepMs: number | null;
  /** Of all journals of the site, null for no limit. */
  readonly maxBytes: number | null;
  readonly log: Log;
}

/**
 * The catalog gives states up first; then their files go, also those that an earlier run or another node left.
 * @returns how many epochs were given up, and how many journals of this node were removed
 */
export async function pruneJournals(input: RetentionInput): Promise<{ epochs: number; journals: number }> {
  const { catalog, node, replicaRoot, keepMs, maxBytes, log } = input;
  const isLimited = keepMs !== null || maxBytes !== null;
  const given = isLimited ? await catalog.giveUpJournals({ keepMs, maxBytes }) : [];
  for (const { host, point } of given) {
    log.info({ event: 'journals-given-up', host, point }, 'the states of an epoch are kept no longer');
  }
  let journals = 0;
  for (const { storageId, directory } of await catalog.journalsToRemove(node)) {
    if (!resolve(directory).startsWith(resolve(replicaRoot) + sep)) {
      log.warn({ event: 'not-removed', path: directory }, 'a journal does not lie under the replica folder');
      continue;
    }
    journals += await removeReplicaFiles(directory);
    await catalog.noteJournalRemoved(storageId);
  }
  return { epochs: given.length, journals };
}

/** Looks at once and then each minute. */
export function startJournalRetention(
  parts: Omit<RetentionInput, 'keepMs' | 'maxBytes'> & {
    config: NonNullable<SiteConfig['replica']>['journals'];
    everyMs?: number;
  },
): { close(): Promise<void> } {
  const { config, everyMs = LOOK_EVERY_MS, ...where } = parts;
  const keepMs = config?.keep === undefined ? null : parseDuration(config.keep);
  const maxBytes = config?.size === undefined ? null : parseSize(config.size);
  const prune = async (): Promise<void> => {
    try {
      await pruneJournals({ ...where, keepMs, maxBytes });
    } catch (error) {
      where.log.warn({ event: 'retention-failed', err: error }, 'journals are looked at again later');
    }
  };
  let running = prune();
  const timer = setInterval(() => {
    running = running.then(prune);
  }, everyMs);
  return {
    async close() {
      clearInterval(timer);
      await running;
    },
  };
}
