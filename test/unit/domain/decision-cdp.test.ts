import { describe, expect, it } from 'vitest';
import type { Cursor, SyncQuery } from '../../../src/contract/sync.ts';
import { type Decision, decide } from '../../../src/domain/decision.ts';
import type { DiskView, EpochView, SnapshotView } from '../../../src/domain/host-view.ts';

const DISKS = ['vda', 'vdb'];

/** A disk of the snapshot with this sequence; ids are the sequence and the disk's place. */
const disk = (
  name: string,
  sequence: number,
  parent: number | null,
  format: DiskView['format'],
): DiskView => ({
  disk: name,
  diskSnapshotId: sequence * 10 + DISKS.indexOf(name),
  parentId: parent === null ? null : parent * 10 + DISKS.indexOf(name),
  node: 'na',
  path: `/${format}/${name}-${sequence}`,
  format,
  virtualSizeBytes: 1 << 30,
});

const images = (sequence: number, parent: number | null): SnapshotView => ({
  uuid: `s${sequence}`,
  sequence,
  originSite: 'a',
  takenAtMs: sequence * 1000,
  kind: 'qcow2',
  disks: DISKS.map(name => disk(name, sequence, parent, 'qcow2')),
});

const epoch = (sequence: number, base: number, change: Partial<EpochView> = {}): SnapshotView => ({
  ...images(sequence, base),
  kind: 'cdp',
  disks: DISKS.map(name => disk(name, sequence, base, 'cdp')),
  epoch: {
    baseSnapshot: `s${base}`,
    epoch: sequence,
    newestCheckpoint: 100,
    newestCheckpointAtMs: sequence * 1000 + 500,
    endedReason: null,
    ...change,
  },
});

const cursor = (hostSnapshot: string, checkpoint: number | null = null): Cursor => ({
  hostSnapshot,
  taskUuid: 'prev-task',
  position: checkpoint === null ? null : { epoch: 2, checkpoint },
  proofs: [],
});

function decideOn(
  snapshots: readonly SnapshotView[],
  query: Partial<SyncQuery>,
  doubts: Readonly<Record<string, string>> = {},
): Decision {
  return decide({
    view: { host: 'web1', snapshots },
    prevLocked: true,
    prevDoubts: new Map(DISKS.map(name => [name, doubts[name] ?? null])),
    query: {
      fence: { scheduleUuid: 'u', generation: 2, plan: 1 },
      replicaSite: 'b',
      scheduleName: 'nightly',
      host: 'web1',
      type: 'continuous',
      taskUuid: 'task',
      lockType: 'remote_schedule_u',
      prev: null,
      unfinished: null,
      replicaHoldsHost: false,
      replicaDoubts: [],
      canAppend: true,
      comparable: [],
      ...query,
    },
  });
}

const said = ({ row, target, continues }: Decision) => ({
  row,
  target: target?.hostSnapshot ?? null,
  methods: [...new Set(target?.disks.map(({ method }) => method))].join(),
  base: target?.disks[0]?.baseSnapshot ?? null,
  continues: continues ?? false,
});

const FIRST = [images(1, null), epoch(2, 1)];
/** Epoch 2 ended, and a second one began. */
const SECOND = [
  images(1, null),
  epoch(2, 1, { endedReason: 'the recorder died' }),
  images(3, 1),
  epoch(4, 3),
];

describe.each(['continuous', 'interval'] as const)('epochs, for a schedule of type %s', type => {
  it('a first copy is one of the base, and goes on at once', () => {
    expect(said(decideOn(FIRST, { type }))).toEqual({
      ...{ row: 3, target: 's1', methods: 'full', base: null, continues: true },
    });
  });

  it('on its base the journal follows, with its base and the newest checkpoint', () => {
    const decision = decideOn(FIRST, { type, prev: cursor('s1') });
    expect(said(decision)).toEqual({
      ...{ row: 6, target: 's2', methods: 'append', base: 's1', continues: false },
    });
    expect(decision.target).toMatchObject({
      base: 's1',
      position: { epoch: 2, checkpoint: 100 },
      takenAtMs: 2500,
    });
    expect(decision.target?.disks.map(({ path }) => path)).toEqual(['/qcow2/vda-1', '/qcow2/vdb-1']);
    expect(decision.warnings).toEqual([]);
  });

  it('what the journal has beyond the cursor is appended', () => {
    const decision = decideOn(FIRST, { type, prev: cursor('s2', 60) });
    expect(said(decision)).toEqual({
      ...{ row: 5, target: 's2', methods: 'append', base: 's1', continues: false },
    });
    expect(decision).toMatchObject({ result: 'update', reason: 's2 has checkpoint 100, 60 is published' });
  });

  it('the same checkpoint is nothing new', () => {
    const decision = decideOn(FIRST, { type, prev: cursor('s2', 100) });
    expect(decision).toMatchObject({ result: 'none', row: 7, waiting: false });
    expect(decision.reason).toContain('checkpoint 100 of s2');
  });

  it('a later epoch begins with an increment on the base of the one before', () => {
    const decision = decideOn(SECOND, { type, prev: cursor('s2', 100) });
    const continues = type === 'interval';
    expect(said(decision)).toEqual({ row: 6, target: 's3', methods: 'incremental', base: 's1', continues });
    expect(decision.reason).toContain('whose epoch ended: the recorder died');
  });

  it('a doubt at the base is compared before anything is appended', () => {
    const comparable = DISKS.map(name => ({ disk: name, what: 'replica' as const }));
    for (const prev of [cursor('s1'), cursor('s2', 60), cursor('s2', 100)]) {
      const decision = decideOn(FIRST, { type, prev, comparable }, { vda: 'another size' });
      expect(said(decision)).toMatchObject({ row: 4, target: 's1', methods: 'compare' });
      expect(decision.warnings.join()).toContain('unexpected compare of disk vda: the source is in doubt');
    }
  });

  it('an epoch without a checkpoint is waited for', () => {
    const view = [images(1, null), epoch(2, 1, { newestCheckpoint: 0 })];
    expect(decideOn(view, { type, prev: cursor('s1') })).toMatchObject({
      row: 7,
      reason: 'nothing is newer than s1',
    });
  });

  it('an unknown prev brings the newest base, compared', () => {
    const comparable = DISKS.map(name => ({ disk: name, what: 'replica' as const }));
    expect(said(decideOn(SECOND, { type, prev: cursor('lost'), comparable }))).toEqual({
      ...{ row: 4, target: 's3', methods: 'compare', base: null, continues: true },
    });
  });

  it('a replica site that cannot append gets images, and is told what it misses', () => {
    const { canAppend: _, ...query } = { canAppend: false, type, prev: cursor('s1') };
    const decision = decideOn(SECOND, { ...query, canAppend: false });
    expect(said(decision)).toMatchObject({ row: 6, target: 's3', methods: 'incremental', continues: false });
    expect(decision.warnings).toEqual([expect.stringContaining('2 CDP host snapshots are passed over')]);
  });

  it('an epoch whose base was forgotten is passed over, and said so', () => {
    const decision = decideOn([epoch(2, 1), images(5, null)], { type });
    expect(said(decision)).toMatchObject({ row: 3, target: 's5' });
    expect(decision.warnings).toEqual(['the CDP host snapshot s2 is passed over: its base is unknown']);
  });
});

describe('what the types do differently', () => {
  it('a continuous schedule takes the rest of an epoch though a later one exists', () => {
    const type = 'continuous';
    expect(said(decideOn(SECOND, { type, prev: cursor('s2', 60) }))).toMatchObject({ row: 5, target: 's2' });
  });

  it('an interval schedule goes to the newest, and names what it passes over', () => {
    const decision = decideOn(SECOND, { type: 'interval', prev: cursor('s1') });
    expect(said(decision)).toMatchObject({ row: 6, target: 's3', continues: true });
    expect(decision.skipped).toEqual(['s2']);
  });

  it('images that were taken while an epoch is open are an increment on its base', () => {
    const view = [...FIRST, images(5, 1)];
    const interval = decideOn(view, { type: 'interval', prev: cursor('s2', 60) });
    expect(said(interval)).toMatchObject({ row: 6, target: 's5', methods: 'incremental', base: 's1' });
    const continuous = decideOn(view, { type: 'continuous', prev: cursor('s2', 60) });
    expect(said(continuous)).toMatchObject({ row: 5, target: 's2' });
  });

  it('images after CDP that stand on another chain are no increment', () => {
    const view = [...FIRST, images(5, null)];
    const decision = decideOn(view, { type: 'continuous', prev: cursor('s2', 100) });
    expect(said(decision)).toMatchObject({ row: 4, target: 's5', methods: 'full', base: null });
  });

  it('an unfinished journal is taken up again, or its base where that is not published', () => {
    const unfinished = { hostSnapshot: 's2' };
    expect(said(decideOn(FIRST, { prev: cursor('s1'), unfinished }))).toMatchObject({
      ...{ row: 1, target: 's2', methods: 'append' },
    });
    expect(said(decideOn(FIRST, { unfinished }))).toMatchObject({ row: 1, target: 's1', continues: true });
  });
});
