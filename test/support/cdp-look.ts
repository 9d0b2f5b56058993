/** What end-to-end tests of continuous data protection do again and again: load, wait, restore. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { until } from './e2e-host.ts';
import { rowsOf } from './e2e-look.ts';
import type { JournaledHost, KnownState } from './journaled-host.ts';
import { qemuImg } from './qemu.ts';
import type { TwoSites } from './two-sites.ts';

const MIB = 1024 * 1024;
export const CDP_SIZES = { vda: 16 * MIB, vdb: 8 * MIB };

/** Random writes to both disks, a checkpoint after every few. @returns the newest */
export async function load(host: JournaledHost, checkpoints: number): Promise<KnownState> {
  for (let count = 0; count < checkpoints; count += 1) {
    for (let write = 0; write < 5; write += 1) {
      const disk = Math.random() < 0.5 ? 'vda' : 'vdb';
      const length = 512 * (1 + Math.floor(Math.random() * 40));
      const offset = 512 * Math.floor((Math.random() * (CDP_SIZES[disk] - length)) / 512);
      await host.write(disk, offset, length, 1 + Math.floor(Math.random() * 250));
    }
    await host.checkpoint();
  }
  return host.states.at(-1) as KnownState;
}

/** The sequence of the newest checkpoint of an epoch at B; 0 for none. */
export async function publishedAt(sites: TwoSites, epochUuid: string): Promise<number> {
  const rows = await rowsOf<{ newest_checkpoint: string }>(
    sites,
    'b',
    `select e.newest_checkpoint from cdp_epochs e join host_snapshots hs on hs.id = e.host_snapshot_id
     where hs.uuid = '${epochUuid}'`,
  );
  return Number(rows[0]?.newest_checkpoint ?? 0);
}

export const untilReached = (sites: TwoSites, epochUuid: string, sequence: number): Promise<number> =>
  until(
    `checkpoint ${sequence} of ${epochUuid} at B`,
    () => publishedAt(sites, epochUuid),
    found => found >= sequence,
  );

/** `--at` the time of a state. */
export const at = ({ atMs }: KnownState): string[] => ['--at', new Date(Math.ceil(atMs)).toISOString()];

/** Restores a state at B and compares it with what the host held. */
export async function expectRestored(
  sites: TwoSites,
  host: string,
  state: KnownState,
  ...which: string[]
): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'offsite-cdp-'));
  try {
    const to = join(scratch, 'restored');
    await sites.json('b', 'replica', 'recover', host, ...which, '--to', to);
    for (const [disk, sha256] of Object.entries(state.sha256)) {
      const raw = join(scratch, `${disk}.raw`);
      await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', join(to, `${disk}.qcow2`), raw);
      const found = createHash('sha256')
        .update(await readFile(raw))
        .digest('hex');
      expect(found, `${disk} ${which.join(' ')}`).toBe(sha256);
    }
  } finally {
    await rm(scratch, { recursive: true });
  }
}
