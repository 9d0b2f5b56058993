/** What is restored is what the writes made, at every instant; all disks are of one, and nothing else is touched. */
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SiteConfig } from '../../../src/config/site-config.ts';
import type { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import { segmentPath } from '../../../src/images/cdp/segment.ts';
import type { FaultPoint } from '../../../src/lib/fault-points.ts';
import { openReplicaInventory } from '../../../src/sites/replica-inventory.ts';
import { type RecoverRequest, recoverHost } from '../../../src/sites/replica-recovery.ts';
import {
  type CdpSite,
  type CdpStep,
  type MadePoint,
  publishBase,
  publishEpoch,
  replayed,
  sequenceOf,
} from '../../support/cdp-point.ts';
import { useTestDatabase } from '../../support/database.ts';
import { interrupted } from '../../support/faults/interrupted.ts';
import { fileSha256, qemuCheck, qemuIdentical } from '../../support/qemu.ts';
import { randomBytes } from '../../unit/images/replica-fixtures.ts';

const MIB = 1024 * 1024;
const START_MS = Date.parse('2026-11-24T02:00:00.000Z');
const SIZES = { vda: 4 * MIB, vdb: 2 * MIB + 1536 };
const SOUND = { corruptions: 0, leaks: 0, checkErrors: 0 };
const database = useTestDatabase();
let root: string;
let config: SiteConfig;
let site: CdpSite;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'offsite-test-'));
  const replicaRoot = join(root, 'replicas');
  site = { db: database().db, node: 'b1', replicaRoot };
  config = {
    ...{ site: 'b', node: 'b1', dataDir: root, database: { url: database().url }, temporal: {} },
    ...{ logLevel: 'info', replica: { listen: '127.0.0.1:0', directory: replicaRoot } },
  };
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A number from 0 to `below`, the same for the same seed. */
function dice(seed: number): (below: number) => number {
  let state = (Math.imul(seed, 2654435761) + 1) >>> 0 || 1;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Writes as a guest makes them, mostly of whole sectors, with a checkpoint after some of them. */
function randomSteps(seed: number, count: number): CdpStep[] {
  const roll = dice(seed);
  let timeUs = START_MS * 1000;
  return Array.from({ length: count }, (_, index): CdpStep => {
    timeUs += roll(90_000);
    const disk = roll(2) === 0 ? ('vda' as const) : ('vdb' as const);
    if (roll(8) === 0 || index === count - 1) {
      return { kind: 'checkpoint', timeUs, ...(roll(5) === 0 && { marker: `m${index}` }) };
    }
    const offset = Math.min(roll(SIZES[disk] / 512) * 512 + (roll(6) === 0 ? roll(512) : 0), SIZES[disk] - 1);
    const length = Math.min(roll(5) === 0 ? 1 + roll(200_000) : 512 * (1 + roll(24)), SIZES[disk] - offset);
    const kind = (['write', 'write', 'write', 'write', 'zero', 'discard'] as const)[roll(6)] ?? 'write';
    return kind === 'write'
      ? { kind, timeUs, disk, offset, bytes: randomBytes(length, 1 + roll(1_000_000)) }
      : { kind, timeUs, disk, offset, length };
  });
}

interface MadeHost {
  readonly host: string;
  readonly content: Record<'vda' | 'vdb', Buffer>;
  readonly base: MadePoint;
  readonly epoch: MadePoint;
  readonly steps: readonly CdpStep[];
  /** Sequences, rising. */
  readonly checkpoints: readonly number[];
}

async function makeHost(seed: number, count = 300, published?: (all: readonly number[]) => number) {
  const host = `host-${randomUUID().slice(0, 8)}`;
  const content = { vda: randomBytes(SIZES.vda, seed + 1), vdb: randomBytes(SIZES.vdb, seed + 2) };
  const base = await publishBase(site, { host, disks: content, takenAtMs: START_MS });
  const steps = randomSteps(seed, count);
  const checkpoints = steps.flatMap((step, index) => (step.kind === 'checkpoint' ? [sequenceOf(index)] : []));
  const epoch = await publishEpoch(site, {
    ...{ host, base, steps, takenAtMs: START_MS },
    ...(published && { published: published(checkpoints) }),
  });
  return { host, content, base, epoch, steps, checkpoints } satisfies MadeHost;
}

const msAt = (steps: readonly CdpStep[], sequence: number): number =>
  Math.floor((steps[sequence - 1]?.timeUs ?? 0) / 1000);
const iso = (ms: number): string => new Date(ms).toISOString();

let folders = 0;
function newFolder(): string {
  folders += 1;
  return join(root, 'restored', `r${folders}`);
}
const recover = (host: string, request: Partial<RecoverRequest> = {}) =>
  recoverHost(config, database().db, {
    ...{ host, point: null, at: null, marker: null, directory: newFolder(), format: 'overlay' },
    ...request,
  });
type Recovered = Awaited<ReturnType<typeof recover>>;

async function expectState({ content, steps }: MadeHost, recovered: Recovered, checkpoint: number) {
  expect(recovered.disks.map(({ disk }) => disk)).toEqual(['vda', 'vdb']);
  for (const { disk, path, format } of recovered.disks) {
    const expected = `${path}.expected`;
    await writeFile(expected, replayed(content[disk as 'vda' | 'vdb'], disk, steps, checkpoint));
    expect(await qemuIdentical(expected, path, ['raw', format])).toBe(true);
    if (format === 'qcow2') expect(await qemuCheck(path)).toEqual(SOUND);
    await rm(expected);
  }
}

describe('a state of an epoch', () => {
  it('is that of the newest checkpoint at or before the instant, on all disks, and the replica stays as it is', async () => {
    const made = await makeHost(11);
    const files = [...made.base.disks.values()].map(({ path }) => path);
    const journals = [...made.epoch.disks.values()].map(({ path }) => segmentPath(path, 0));
    const before = await Promise.all([...files, ...journals].map(fileSha256));
    const roll = dice(77);
    const firstMs = msAt(made.steps, made.checkpoints[0] ?? 0);
    const lastMs = msAt(made.steps, made.steps.length);
    for (let run = 0; run < 20; run += 1) {
      const atMs = firstMs + roll(lastMs - firstMs + 50);
      const expected = made.checkpoints.filter(sequence => msAt(made.steps, sequence) <= atMs).at(-1) ?? 0;
      const format = (['overlay', 'qcow2', 'raw'] as const)[run % 3] ?? 'overlay';
      const recovered = await recover(made.host, { at: iso(atMs), format });
      expect(recovered).toMatchObject({
        ...{ point: made.epoch.uuid, checkpoint: expected, at: iso(msAt(made.steps, expected)) },
        ...{ askedAt: iso(atMs), lostMs: atMs - msAt(made.steps, expected), warnings: [] },
      });
      await expectState(made, recovered, expected);
    }
    expect(await Promise.all([...files, ...journals].map(fileSha256))).toEqual(before);
  }, 180_000);

  it('is never one that was not published, whatever the journals hold already', async () => {
    const made = await makeHost(12, 120, all => all.at(-3) ?? 0);
    const published = made.checkpoints.at(-3) ?? 0;
    for (const request of [{}, { point: made.epoch.uuid }, { at: iso(START_MS + 3_600_000) }]) {
      const recovered = await recover(made.host, request);
      expect(recovered).toMatchObject({ point: made.epoch.uuid, checkpoint: published });
      await expectState(made, recovered, published);
    }
  }, 180_000);

  it('is restored while the journal grows and more is published', async () => {
    const host = `host-${randomUUID().slice(0, 8)}`;
    const content = { vda: randomBytes(SIZES.vda, 5), vdb: randomBytes(SIZES.vdb, 6) };
    const base = await publishBase(site, { host, disks: content, takenAtMs: START_MS });
    const writers = new Map<string, JournalWriter>();
    const growing = { host, base, takenAtMs: START_MS, steps: [], keep: writers };
    const epoch = await publishEpoch(site, growing);
    const steps: CdpStep[] = [];
    let isOver = false;
    const grow = async (): Promise<void> => {
      for (let index = 0; !isOver; index += 1) {
        const timeUs = (START_MS + index) * 1000;
        const sequence = sequenceOf(index);
        if (index % 10 < 9) {
          const disk = index % 2 === 0 ? 'vda' : 'vdb';
          const step = {
            kind: 'write',
            timeUs,
            disk,
            offset: (index % 400) * 4096,
            bytes: randomBytes(4096, index + 1),
          };
          steps.push(step as CdpStep);
          const { offset, bytes: payload } = step;
          await writers.get(disk)?.append({ type: 'write', sequence, timeUs, offset, length: 4096, payload });
          continue;
        }
        steps.push({ kind: 'checkpoint', timeUs });
        for (const writer of writers.values()) {
          await writer.append({
            type: 'checkpoint',
            sequence,
            timeUs,
            offset: 0,
            length: 0,
            payload: Buffer.alloc(0),
          });
          await writer.sync();
        }
        await database()
          .db('cdp_epochs')
          .where({ host_snapshot_id: epoch.id })
          .update({ newest_checkpoint: sequence, newest_checkpoint_at: new Date(timeUs / 1000) });
      }
    };
    const growth = grow();
    const found: Recovered[] = [];
    while (found.length < 5) {
      const recovered = await recover(host).catch(error => error as { code: string });
      if ('disks' in recovered && recovered.checkpoint !== null) found.push(recovered);
    }
    isOver = true;
    await growth;
    for (const writer of writers.values()) await writer.close();
    const made: MadeHost = { host, content, base, epoch, steps, checkpoints: [] };
    for (const recovered of found) await expectState(made, recovered, recovered.checkpoint ?? 0);
    expect(new Set(found.map(({ checkpoint }) => checkpoint)).size).toBeGreaterThan(1);
  }, 180_000);

  it('before the first checkpoint is the base, and before the base there is none', async () => {
    const { host, base, content } = await makeHost(13, 60);
    const recovered = await recover(host, { at: iso(START_MS) });
    expect(recovered).toMatchObject({ point: base.uuid, checkpoint: null, lostMs: 0 });
    await writeFile(join(root, 'base.raw'), content.vda);
    expect(
      await qemuIdentical(join(root, 'base.raw'), recovered.disks[0]?.path ?? '', ['raw', 'qcow2']),
    ).toBe(true);
    await expect(recover(host, { at: iso(START_MS - 1) })).rejects.toMatchObject({ code: 'StateUnknown' });
    await expect(recover('nobody')).rejects.toMatchObject({ code: 'PointUnknown' });
    await expect(recover(host, { point: randomUUID() })).rejects.toMatchObject({ code: 'PointUnknown' });
  }, 180_000);

  it('is found by its marker; of two of one name it is the newest', async () => {
    const host = `host-${randomUUID().slice(0, 8)}`;
    const content = { vda: randomBytes(SIZES.vda, 1), vdb: randomBytes(SIZES.vdb, 2) };
    const base = await publishBase(site, { host, disks: content, takenAtMs: START_MS });
    const at = (ms: number) => (START_MS + ms) * 1000;
    const write = (ms: number, seed: number): CdpStep => ({
      ...{ kind: 'write', timeUs: at(ms), disk: 'vda', offset: 8192, bytes: randomBytes(4096, seed) },
    });
    const steps: CdpStep[] = [
      ...[write(1, 1), { kind: 'checkpoint', timeUs: at(2), marker: 'before update' } as const],
      ...[write(3, 2), { kind: 'checkpoint', timeUs: at(4), marker: 'once' } as const],
      ...[write(5, 3), { kind: 'checkpoint', timeUs: at(6), marker: 'before update' } as const],
      ...[write(7, 4), { kind: 'checkpoint', timeUs: at(8) } as const],
    ];
    const epoch = await publishEpoch(site, { host, base, steps, takenAtMs: START_MS });
    const made: MadeHost = { host, content, base, epoch, steps, checkpoints: [2, 4, 6, 8] };
    const once = await recover(host, { marker: 'once' });
    expect(once).toMatchObject({ checkpoint: 4, marker: 'once', warnings: [], at: iso(START_MS + 4) });
    await expectState(made, once, 4);
    const twice = await recover(host, { marker: 'before update' });
    expect(twice).toMatchObject({ checkpoint: 6, warnings: [expect.stringContaining('2 markers')] });
    await expectState(made, twice, 6);
    await expect(recover(host, { marker: 'never' })).rejects.toMatchObject({ code: 'MarkerUnknown' });

    const inventory = await openReplicaInventory(config);
    expect((await inventory.listMarkers({ host })).map(({ name, checkpoint }) => [name, checkpoint])).toEqual(
      [
        ...[
          ['before update', 2],
          ['once', 4],
          ['before update', 6],
        ],
      ],
    );
    expect((await inventory.listPoints({ host })).map(({ kind, cdp }) => [kind, cdp])).toEqual([
      ['qcow2', null],
      [
        'cdp',
        expect.objectContaining({
          ...{ epoch: 1, base: base.uuid, from: iso(START_MS), to: iso(START_MS + 8) },
          ...{ newestCheckpoint: 8, markers: 3, endedAt: null, gaps: [] },
        }),
      ],
    ]);
    await inventory.close();
  }, 180_000);

  it('lies between epochs in the older one, and the list tells of the gap', async () => {
    const first = await makeHost(14, 60);
    await database()
      .db('cdp_epochs')
      .where({ host_snapshot_id: first.epoch.id })
      .update({ ended_at: new Date(), ended_reason: 'the recorder was killed' });
    const laterMs = msAt(first.steps, first.steps.length) + 60_000;
    const base = await publishBase(site, { host: first.host, disks: first.content, takenAtMs: laterMs });
    const steps = randomSteps(15, 60).map(step => ({
      ...step,
      timeUs: step.timeUs + (laterMs - START_MS) * 1000,
    }));
    const epoch = await publishEpoch(site, { host: first.host, base, steps, takenAtMs: laterMs, epoch: 2 });
    expect(await recover(first.host, { at: iso(laterMs - 1) })).toMatchObject({
      ...{ point: first.epoch.uuid, checkpoint: first.checkpoints.at(-1) },
      lostMs: 59_999,
    });
    expect(await recover(first.host)).toMatchObject({ point: epoch.uuid });
    const inventory = await openReplicaInventory(config);
    const gaps = (await inventory.listPoints({ host: first.host })).map(({ cdp }) => cdp?.gaps ?? null);
    await inventory.close();
    const gap = { from: iso(laterMs - 60_000), to: iso(laterMs), reason: 'the recorder was killed' };
    expect(gaps).toEqual([null, [], null, [gap]]);
  }, 180_000);
});

describe('damage', () => {
  /** Changes one byte of the payload of the record of a step. */
  async function damage({ epoch, steps }: MadeHost, disk: 'vda' | 'vdb', sequence: number): Promise<void> {
    const path = segmentPath(epoch.disks.get(disk)?.path ?? '', 0);
    const bytes = await readFile(path);
    const step = steps[sequence - 1];
    if (step?.kind !== 'write') throw new Error('no write');
    const at = bytes.indexOf(step.bytes.subarray(0, 256));
    if (at < 0) throw new Error('not in the first segment');
    const file = await open(path, 'r+');
    await file.write(Buffer.from([(bytes[at] as number) ^ 1]), 0, 1, at);
    await file.close();
  }

  it('of one journal is told with the time until which all disks can be restored, and that works', async () => {
    const made = await makeHost(16, 100);
    const damagedAt = made.steps.findIndex(
      (step, index) =>
        index > (made.checkpoints[2] ?? 0) &&
        step.kind === 'write' &&
        step.disk === 'vdb' &&
        step.bytes.length > 256,
    );
    await damage(made, 'vdb', sequenceOf(damagedAt));
    const whole = made.checkpoints.filter(sequence => sequence <= damagedAt).at(-1) ?? 0;
    const error = await recover(made.host).catch(thrown => thrown);
    expect(error).toMatchObject({ code: 'StateDamaged', untilMs: msAt(made.steps, whole) });
    expect(error.message).toContain(`until ${iso(msAt(made.steps, whole))} (checkpoint ${whole})`);
    const recovered = await recover(made.host, { at: iso(error.untilMs) });
    expect(recovered.checkpoint).toBe(whole);
    await expectState(made, recovered, whole);
  }, 180_000);

  it('of the base, or a journal that is gone or another one, ends in a typed error', async () => {
    const gone = await makeHost(17, 30);
    await rm(gone.base.disks.get('vdb')?.path ?? '');
    await expect(recover(gone.host)).rejects.toMatchObject({ code: 'StateDamaged', untilMs: null });
    const other = await makeHost(18, 30);
    const [from = '', to = ''] = [gone, other].map(({ epoch }) => epoch.disks.get('vda')?.path ?? '');
    await rm(to, { recursive: true });
    await expect(recover(other.host)).rejects.toMatchObject({ code: 'StateDamaged', untilMs: null });
    await mkdir(to);
    await writeFile(segmentPath(to, 0), await readFile(segmentPath(from, 0)));
    await expect(recover(other.host)).rejects.toMatchObject({ code: 'StateDamaged' });
    await writeFile(segmentPath(to, 0), 'not a journal');
    await expect(recover(other.host)).rejects.toMatchObject({ code: 'StateDamaged' });
    expect((await readdir(join(root, 'restored'))).filter(name => name.startsWith('.'))).toEqual([]);
  }, 180_000);
});

describe('the folder', () => {
  it('appears with all disks or not at all, whatever step fails, and leftovers of a crash go', async () => {
    const made = await makeHost(19, 30);
    const points: FaultPoint[] = [
      ...(['restore.mkdirHidden', 'restore.writePiece', 'restore.truncatePieces', 'restore.link'] as const),
      ...(['restore.unlinkOverlay', 'restore.nameFolder', 'restore.syncParent'] as const),
    ];
    for (const point of points) {
      const parent = join(root, 'parts', point);
      let run = 0;
      const last = await interrupted(point, () => {
        run += 1;
        return recover(made.host, { directory: join(parent, `${run}`), format: 'qcow2' });
      });
      await expectState(made, last, made.checkpoints.at(-1) ?? 0);
      for (const name of await readdir(parent)) {
        expect(await readdir(join(parent, name))).toEqual(['vda.qcow2', 'vdb.qcow2']);
      }
    }
    const left = (name: string) => join(root, 'parts', `.again.recovering-${name}`);
    await mkdir(left(randomUUID()));
    await mkdir(left('by-a-person'));
    const directory = join(root, 'parts', 'again');
    await interrupted('restore.removeLeft', async () => {
      await rm(directory, { recursive: true, force: true });
      await mkdir(left(randomUUID()), { recursive: true });
      return recover(made.host, { directory });
    });
    const hidden = (await readdir(join(root, 'parts'))).filter(name => name.startsWith('.'));
    expect(hidden).toEqual(['.again.recovering-by-a-person']);
  }, 120_000);

  it('what cannot be removed after a failure goes with the next run', async () => {
    const made = await makeHost(20, 30);
    await rm(made.base.disks.get('vdb')?.path ?? '');
    const directory = join(root, 'failed', 'here');
    const failing = () => recover(made.host, { directory });
    await expect(interrupted('restore.removeHidden', failing)).rejects.toMatchObject({
      code: 'StateDamaged',
    });
    expect(await readdir(join(root, 'failed'))).toEqual([]);
  }, 180_000);

  it('must be new or empty, and only one recovery at a time goes there', async () => {
    const { host } = await makeHost(21, 30);
    const directory = join(root, 'taken');
    await mkdir(directory);
    await recover(host, { directory });
    await expect(recover(host, { directory })).rejects.toMatchObject({ code: 'FileExists' });
    const both = await Promise.allSettled(
      [1, 2].map(() => recover(host, { directory: join(root, 'twice') })),
    );
    const codes = both.map(result => (result.status === 'rejected' ? result.reason.code : 'done')).sort();
    expect([
      ['RecoveryRuns', 'done'],
      ['FileExists', 'done'],
    ]).toContainEqual(codes);
    expect(await readdir(join(root, 'twice'))).toEqual(['vda.qcow2', 'vdb.qcow2']);
  }, 180_000);
});
