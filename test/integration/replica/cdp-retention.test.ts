/** Journals at rest: what is read and found to be damaged, and what is given up when its time is over. */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { holdForRestore } from '../../../src/catalog/replica-epochs.ts';
import type { SiteConfig } from '../../../src/config/site-config.ts';
import { segmentPath } from '../../../src/images/cdp/segment.ts';
import { pruneJournals } from '../../../src/sites/journal-retention.ts';
import { openReplicaInventory } from '../../../src/sites/replica-inventory.ts';
import { recoverHost } from '../../../src/sites/replica-recovery.ts';
import { createReplicaRoot } from '../../../src/sites/replica-root.ts';
import { scrubReplicas } from '../../../src/sites/replica-scrub.ts';
import {
  type CdpSite,
  type CdpStep,
  type MadePoint,
  publishBase,
  publishEpoch,
} from '../../support/cdp-point.ts';
import { useTestDatabase } from '../../support/database.ts';
import { interrupted } from '../../support/faults/interrupted.ts';
import { newSchedule } from '../catalog/fixtures.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const database = useTestDatabase();
const log = pino({ level: 'silent' });
let root: string;
let replicaRoot: string;
let config: SiteConfig;
let site: CdpSite;
let catalog: ReplicaCatalog;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'offsite-test-'));
  replicaRoot = join(root, 'replicas');
  site = { db: database().db, node: 'b1', replicaRoot };
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot });
  config = {
    ...{ site: 'b', node: 'b1', dataDir: root, database: { url: database().url }, temporal: {} },
    ...{ logLevel: 'info', replica: { listen: '127.0.0.1:0', directory: replicaRoot } },
  };
});
afterAll(() => rm(root, { recursive: true, force: true }));

const newHost = (): string => `host-${randomUUID().slice(0, 8)}`;
const content = Buffer.alloc(1024 * 1024, 7);
let epochs = 0;

/** A base and the epoch on it, some hours ago; each has 100 writes of 4 KiB and a checkpoint after each tenth. */
async function makeEpoch(host: string, agoMs: number): Promise<{ base: MadePoint; epoch: MadePoint }> {
  const takenAtMs = Date.now() - agoMs;
  epochs += 1;
  const base = await publishBase(site, { host, disks: { vda: content, vdb: content }, takenAtMs });
  const steps = Array.from({ length: 110 }, (_, index): CdpStep => {
    const timeUs = (takenAtMs + (index + 1) * 1000) * 1000;
    if (index % 11 === 10) return { kind: 'checkpoint', timeUs };
    const disk = index % 2 === 0 ? 'vda' : 'vdb';
    return { kind: 'write', timeUs, disk, offset: (index % 64) * 4096, bytes: Buffer.alloc(4096, index + 1) };
  });
  return { base, epoch: await publishEpoch(site, { host, base, steps, takenAtMs, epoch: epochs }) };
}

const prune = (limits: { keepMs?: number; maxBytes?: number }) =>
  pruneJournals({ catalog, node: 'b1', replicaRoot, log, keepMs: null, maxBytes: null, ...limits });
const isThere = (point: MadePoint): readonly boolean[] =>
  [...point.disks.values()].map(({ path }) => existsSync(path));
const listed = async (host: string) => {
  const inventory = await openReplicaInventory(config);
  try {
    return (await inventory.listPoints({ host })).map(({ cdp }) => cdp);
  } finally {
    await inventory.close();
  }
};
const recover = (host: string, point: string) =>
  recoverHost(config, database().db, {
    ...{ host, point, at: null, marker: null, format: 'overlay' },
    directory: join(root, 'restored', randomUUID()),
  });

it('an epoch out of the window goes when a point from before the window is there, and is told as a gap', async () => {
  const host = newHost();
  const first = await makeEpoch(host, 3 * DAY_MS);
  expect(await prune({ keepMs: DAY_MS })).toEqual({ epochs: 0, journals: 0 });
  const second = await makeEpoch(host, 2 * DAY_MS);
  const third = await makeEpoch(host, HOUR_MS);
  // Of the second one states may be wanted: what comes after it is younger than the window.
  expect(await prune({ keepMs: DAY_MS })).toEqual({ epochs: 1, journals: 2 });
  expect([first, second, third].map(({ epoch }) => isThere(epoch))).toEqual([
    ...[
      [false, false],
      [true, true],
      [true, true],
    ],
  ]);
  const [, gone, , kept] = await listed(host);
  expect(gone).toMatchObject({ from: null, to: null, newestCheckpoint: null, journalBytes: 0 });
  expect(gone?.gaps).toEqual([expect.objectContaining({ reason: expect.stringContaining('window') })]);
  expect(kept).toMatchObject({ newestCheckpoint: 110 });
  await expect(recover(host, first.epoch.uuid)).rejects.toMatchObject({ code: 'StatesRemoved' });
  expect(await recover(host, first.base.uuid)).toMatchObject({ checkpoint: null });
  expect(await recover(host, second.epoch.uuid)).toMatchObject({ checkpoint: 110 });
  expect(await prune({ keepMs: DAY_MS })).toEqual({ epochs: 0, journals: 0 });
}, 120_000);

it('what is too much goes from the oldest on, and never the newest', async () => {
  await prune({ maxBytes: 0 });
  const host = newHost();
  const made = [
    await makeEpoch(host, 3 * HOUR_MS),
    await makeEpoch(host, 2 * HOUR_MS),
    await makeEpoch(host, HOUR_MS),
  ];
  const all = (await listed(host)).reduce((sum, cdp) => sum + (cdp?.journalBytes ?? 0), 0);
  const { rows } = await database().db.raw(
    'select sum(record_bytes)::bigint as bytes from cdp_journals j join snapshot_storages st on st.id = j.storage_id',
  );
  const others = rows[0].bytes - all;
  expect(await prune({ maxBytes: others + all - 1 })).toEqual({ epochs: 1, journals: 2 });
  expect(await prune({ maxBytes: 0 })).toEqual({ epochs: 1, journals: 2 });
  expect(made.map(({ epoch }) => isThere(epoch)[0])).toEqual([false, false, true]);
}, 120_000);

it("what a schedule's cursor stands in, or a restore needs just now, stays", async () => {
  const host = newHost();
  const first = await makeEpoch(host, 3 * DAY_MS);
  await makeEpoch(host, 2 * DAY_MS);
  const { uuid } = await newSchedule(catalog, { host });
  const cursor = (id: number | null) =>
    database()
      .db('remote_backup_schedules')
      .where({ uuid })
      .update({
        cursor_snapshot_id: id,
        cursor: id === null ? null : '{}',
        cursor_generation: id === null ? null : 1,
      });
  await cursor(first.epoch.id);
  expect(await prune({ keepMs: DAY_MS })).toEqual({ epochs: 0, journals: 0 });
  await cursor(null);
  const hold = await holdForRestore(database().url, { host, folder: 'somewhere' });
  expect(await prune({ keepMs: DAY_MS })).toEqual({ epochs: 0, journals: 0 });
  expect(await recover(host, first.epoch.uuid)).toMatchObject({ checkpoint: 110 });
  await hold?.close();
  expect(await prune({ keepMs: DAY_MS })).toEqual({ epochs: 1, journals: 2 });
}, 120_000);

it.each([
  'replica.commit.giveUpJournal',
  'replica.journal.remove',
  'replica.commit.noteJournalRemoved',
] as const)(
  'a run that dies at %s is finished by the next, and what is left can be restored throughout',
  async point => {
    const hosts: { first: MadePoint; second: MadePoint; host: string }[] = [];
    await interrupted(point, async () => {
      const host = newHost();
      const first = await makeEpoch(host, 3 * DAY_MS);
      const second = await makeEpoch(host, 2 * DAY_MS);
      hosts.push({ host, first: first.epoch, second: second.epoch });
      return prune({ keepMs: DAY_MS });
    });
    await prune({ keepMs: DAY_MS });
    for (const { host, first, second } of hosts) {
      expect([isThere(first), isThere(second)]).toEqual([
        ...[
          [false, false],
          [true, true],
        ],
      ]);
      await expect(recover(host, first.uuid)).rejects.toMatchObject({ code: 'StatesRemoved' });
      expect(await recover(host, second.uuid)).toMatchObject({ checkpoint: 110 });
    }
    expect(await catalog.journalsToRemove('b1')).toEqual([]);
  },
  120_000,
);

it('every record is read and compared; damage is found with its place, marks the point, and goes when it is mended', async () => {
  const host = newHost();
  const { epoch } = await makeEpoch(host, HOUR_MS);
  await rm(join(replicaRoot, '.offsite-replicas'), { force: true });
  const directory = replicaRoot;
  const scrub = () =>
    scrubReplicas({
      ...{ catalog, node: 'b1', replicaRoot, host, rateBytesPerSecond: null, olderThanMs: null },
      root: createReplicaRoot({ catalog, node: 'b1', directory }),
      signal: new AbortController().signal,
    });
  expect(await scrub()).toMatchObject({ layers: 2, damaged: [], proven: [] });
  const journal = epoch.disks.get('vdb')?.path ?? '';
  const flip = async (at: number) => {
    const file = await open(segmentPath(journal, 0), 'r+');
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    await file.write(Buffer.of(byte.readUInt8(0) ^ 1), 0, 1, at);
    await file.close();
  };
  // The newest record of all: only the catalog knows that it was durable.
  const lastWrite = 4096 + 49 * (72 + 4096) + 9 * 72 + 100;
  for (const at of [100_000, lastWrite]) {
    await flip(at);
    const { damaged } = await scrub();
    expect(damaged).toEqual([
      { host, disk: 'vdb', path: journal, reason: expect.stringMatching(/damaged from record \d+ .* to /) },
    ]);
    await flip(at);
    await interrupted('replica.commit.recordJournalVerified', scrub);
    expect(await scrub()).toMatchObject({ damaged: [], proven: [] });
  }
  expect(await listed(host)).toHaveLength(2);
  expect(await readdir(journal)).toEqual(['00000000.cdp']);
}, 120_000);
