/** What two sites hold, in a form that can be compared: whoever comes back late may change nothing of it. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { filesUnder, rowsOf } from './e2e-look.ts';
import type { TwoSites } from './two-sites.ts';

/** All that decides; not the notes on which sender runs, nor the clocks of lookers. */
const TABLES = {
  a: [
    'host_snapshot_locks',
    'schedule_fences',
    'sync_answers',
    'host_snapshots',
    'disk_snapshots',
    'snapshot_storages',
  ],
  b: [
    'schedule_fences',
    'remote_backup_tasks',
    'remote_backup_disk_tasks',
    'receiver_sessions',
    'host_snapshots',
    'disk_snapshots',
    'snapshot_storages',
  ],
} as const;

export interface SitesState {
  /** Rows of each table as text, sorted. */
  readonly rows: Readonly<Record<string, readonly string[]>>;
  /** Size, time of the last write and digest of each replica file. */
  readonly files: Readonly<Record<string, string>>;
}

export async function stateOf(sites: TwoSites): Promise<SitesState> {
  const rows: Record<string, readonly string[]> = {};
  for (const site of ['a', 'b'] as const) {
    for (const table of TABLES[site]) {
      const found = await rowsOf<{ row: string }>(
        sites,
        site,
        `select to_jsonb(t)::text as row from ${table} t`,
      );
      rows[`${site}.${table}`] = found.map(({ row }) => row).sort();
    }
  }
  const files: Record<string, string> = {};
  for (const name of await filesUnder(sites.replicaRoot)) {
    const path = join(sites.replicaRoot, name);
    const { size, mtimeNs } = await stat(path, { bigint: true });
    const digest = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
    files[name] = `${size} bytes, written ${mtimeNs}, ${digest}`;
  }
  return { rows, files };
}

/** The lines that a service has written to its log since it had `from` characters. */
export const linesSince = (sites: TwoSites, service: string, from: number): readonly LogLine[] =>
  sites
    .logOf(service)
    .slice(from)
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => {
      try {
        return JSON.parse(line) as LogLine;
      } catch {
        return {};
      }
    });

export interface LogLine {
  readonly event?: string;
  readonly code?: string;
  readonly activity?: string;
  readonly msg?: string;
  readonly [more: string]: unknown;
}
