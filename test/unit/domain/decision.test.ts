import { describe, expect, it } from 'vitest';
import type { Cursor, LayerProof, SyncQuery } from '../../../src/contract/sync.ts';
import {
  answerOf,
  type Decision,
  decide,
  MAX_SKIPPED_NAMES,
  NodeUnknownError,
  proofDoubt,
} from '../../../src/domain/decision.ts';
import type { DecisionInput } from '../../../src/domain/decision-input.ts';
import type { DiskView, SnapshotView } from '../../../src/domain/host-view.ts';

const disk = (
  name: string,
  id: number,
  parentId: number | null,
  change: Partial<DiskView> = {},
): DiskView => ({
  disk: name,
  diskSnapshotId: id,
  parentId,
  node: 'na',
  path: `/images/${name}-${id}.qcow2`,
  format: 'qcow2',
  virtualSizeBytes: 1 << 30,
  ...change,
});

const snapshot = (
  sequence: number,
  disks: readonly DiskView[],
  change: Partial<SnapshotView> = {},
): SnapshotView => ({
  uuid: `s${sequence}`,
  sequence,
  originSite: 'a',
  takenAtMs: sequence * 1000,
  kind: 'qcow2',
  disks,
  ...change,
});

/** A host with one disk on one chain of `count` host snapshots: ids and sequences from 1. */
const chain = (count: number): SnapshotView[] =>
  Array.from({ length: count }, (_, index) =>
    snapshot(index + 1, [disk('vda', index + 1, index === 0 ? null : index)]),
  );

const prevAt = (hostSnapshot: string): Cursor => ({
  hostSnapshot,
  taskUuid: 'prev-task',
  position: null,
  proofs: [],
});

const query = (change: Partial<SyncQuery> = {}): SyncQuery => ({
  fence: { scheduleUuid: 'u', generation: 2, plan: 1 },
  replicaSite: 'b',
  scheduleName: 'nightly',
  host: 'web-1',
  type: 'interval',
  taskUuid: 'task',
  lockType: 'remote_schedule_u',
  prev: null,
  unfinished: null,
  replicaHoldsHost: false,
  replicaDoubts: [],
  ...change,
});

const decideOn = (
  snapshots: readonly SnapshotView[] | null,
  change: Partial<SyncQuery> = {},
  input: Partial<DecisionInput> = {},
): Decision => {
  const intact = new Map(
    (snapshots ?? []).flatMap(({ disks }) => disks.map(({ disk: name }) => [name, null])),
  );
  return decide({
    query: query(change),
    view: snapshots === null ? null : { host: 'web-1', snapshots },
    prevDoubts: intact,
    prevLocked: true,
    ...input,
  });
};

const methods = (decision: Decision) =>
  Object.fromEntries((decision.target?.disks ?? []).map(({ disk: name, method }) => [name, method]));

describe('row 1: an unfinished target is complete at the source', () => {
  it('answers it again, though something newer is there', () => {
    const decision = decideOn(chain(5), { prev: prevAt('s1'), unfinished: { hostSnapshot: 's3' } });
    expect(decision).toMatchObject({ row: 1, result: 'create', skipped: ['s2'], skippedCount: 1 });
    expect(decision.target?.hostSnapshot).toBe('s3');
    expect(decision.target?.disks[0]).toMatchObject({ method: 'incremental', baseSnapshot: 's1' });
  });
  it('answers it again for a first copy', () => {
    const decision = decideOn(chain(2), { unfinished: { hostSnapshot: 's1' } });
    expect(decision).toMatchObject({ row: 1, warnings: [] });
    expect(methods(decision)).toEqual({ vda: 'full' });
  });
  it('passes over one that vanished', () => {
    const decision = decideOn(chain(2), { prev: prevAt('s1'), unfinished: { hostSnapshot: 'gone' } });
    expect(decision).toMatchObject({ row: 6, target: { hostSnapshot: 's2' } });
  });
  it('passes over one that is not newer than what is published', () => {
    expect(decideOn(chain(2), { prev: prevAt('s2'), unfinished: { hostSnapshot: 's1' } }).row).toBe(7);
    expect(decideOn(chain(2), { prev: prevAt('s2'), unfinished: { hostSnapshot: 's2' } }).row).toBe(7);
  });
});

describe('row 2: nothing complete yet', () => {
  it('waits for a host that the source does not know', () => {
    const decision = decideOn(null);
    expect(decision).toMatchObject({ row: 2, result: 'none', waiting: true, target: null });
    expect(decision.reason).toBe('the source does not know the host web-1');
  });
  it('waits for the first snapshot', () => {
    expect(decideOn([])).toMatchObject({ row: 2, result: 'none', waiting: true });
  });
  it('waits with a warning when a replica is published and its source is gone', () => {
    const decision = decideOn(null, { prev: prevAt('s1') });
    expect(decision).toMatchObject({ row: 2, result: 'none', waiting: true });
    expect(decision.warnings).toHaveLength(1);
  });
});

describe('row 3: no prev', () => {
  it('takes the newest in full, whatever the type', () => {
    for (const type of ['interval', 'continuous'] as const) {
      const decision = decideOn(chain(3), { type });
      expect(decision).toMatchObject({ row: 3, result: 'create', warnings: [], skippedCount: 0 });
      expect(decision.target).toMatchObject({ hostSnapshot: 's3', sourceSequence: 3, takenAtMs: 3000 });
      expect(decision.target?.disks[0]).toMatchObject({ method: 'full', baseSnapshot: null });
    }
  });
  it('compares with what B says it has of the disk, as an image that was brought, without a warning', () => {
    for (const what of ['seed', 'replica'] as const) {
      const decision = decideOn(chain(1), {
        replicaHoldsHost: what === 'replica',
        comparable: [{ disk: 'vda', what }],
      });
      expect(decision).toMatchObject({ row: 3, warnings: [] });
      expect(decision.target?.disks[0]).toMatchObject({ method: 'compare', baseSnapshot: null });
      expect(decision.target?.disks[0]?.reason).toContain(
        what === 'seed' ? 'was brought' : 'a replica of it',
      );
    }
    expect(methods(decideOn(chain(1), { comparable: [{ disk: 'vdb', what: 'seed' }] }))).toEqual({
      vda: 'full',
    });
  });
  it('answers full to a replica site of a version that cannot compare, with a warning', () => {
    const decision = decideOn(chain(1), { replicaHoldsHost: true });
    expect(methods(decision)).toEqual({ vda: 'full' });
    expect(decision.warnings).toEqual([expect.stringContaining('cannot compare')]);
  });
});

describe('row 4: prev is no base', () => {
  it('compares where B has something of the disk, and says that it is unexpected', () => {
    const comparable = [{ disk: 'vda', what: 'replica' as const }];
    const reverted = [...chain(2), snapshot(3, [disk('vda', 9, 1)])];
    const doubted = new Map([['vda', 'the file has another inode']]);
    const cases = [
      decideOn(chain(3), { prev: prevAt('lost'), comparable }),
      decideOn(reverted, { prev: prevAt('s2'), comparable }),
      decideOn(chain(2), { prev: prevAt('s1'), comparable }, { prevDoubts: doubted }),
      decideOn(chain(2), {
        ...{ prev: prevAt('s1'), comparable },
        replicaDoubts: [{ disk: 'vda', doubt: 'another digest' }],
      }),
      decideOn(chain(1), { prev: prevAt('s1'), comparable }, { prevDoubts: doubted }),
    ];
    for (const decision of cases) {
      expect(decision.row).toBe(4);
      const [choice] = decision.target?.disks ?? [];
      expect(choice).toMatchObject({ method: 'compare', baseSnapshot: null });
      expect(decision.warnings).toEqual([`unexpected compare of disk vda: ${choice?.reason}`]);
    }
  });
  it('answers full where B has nothing of the disk, or cannot compare, and says which', () => {
    const nothing = decideOn(chain(3), { prev: prevAt('lost'), comparable: [] });
    expect(methods(nothing)).toEqual({ vda: 'full' });
    expect(nothing.warnings[0]).toMatch(/^unexpected full of disk vda: .*nothing of it to compare with/);
    const older = decideOn(chain(3), { prev: prevAt('lost') });
    expect(methods(older)).toEqual({ vda: 'full' });
    expect(older.warnings[0]).toMatch(/^unexpected full of disk vda: .*cannot compare/);
  });
  it('takes the newest in full when prev is unknown', () => {
    const decision = decideOn(chain(3), { prev: prevAt('lost') });
    expect(decision).toMatchObject({ row: 4, result: 'create', target: { hostSnapshot: 's3' } });
    expect(methods(decision)).toEqual({ vda: 'full' });
    expect(decision.warnings[0]).toContain('lost is unknown at the source');
  });
  it('takes in full a disk whose files at the source are in doubt', () => {
    const prevDoubts = new Map([['vda', 'layer 0 from the top has another size']]);
    const decision = decideOn(chain(2), { prev: prevAt('s1') }, { prevDoubts });
    expect(decision.row).toBe(4);
    expect(decision.warnings[0]).toContain('layer 0 from the top has another size');
  });
  it('takes in full a disk that nobody proved', () => {
    const decision = decideOn(chain(2), { prev: prevAt('s1') }, { prevDoubts: new Map() });
    expect(decision.row).toBe(4);
  });
  it('takes in full a disk whose replica is in doubt, and only that', () => {
    const both = [
      snapshot(1, [disk('vda', 1, null), disk('vdb', 2, null)]),
      snapshot(2, [disk('vda', 3, 1), disk('vdb', 4, 2)]),
    ];
    const replicaDoubts = [{ disk: 'vdb', doubt: 'block 7 has another digest' }];
    const decision = decideOn(both, { prev: prevAt('s1'), replicaDoubts });
    expect(methods(decision)).toEqual({ vda: 'incremental', vdb: 'full' });
    expect(decision).toMatchObject({ row: 4, warnings: [expect.stringContaining('block 7')] });
  });
  it('takes in full what is off the chain: a reverted host', () => {
    const reverted = [...chain(2), snapshot(3, [disk('vda', 9, 1)])];
    const decision = decideOn(reverted, { prev: prevAt('s2') });
    expect(decision).toMatchObject({ row: 4, target: { hostSnapshot: 's3' } });
    expect(decision.target?.disks[0]?.reason).toContain('not on the chain of s2');
  });
  it('ends on a chain that bites its tail', () => {
    const looped = [snapshot(1, [disk('vda', 1, null)]), snapshot(2, [disk('vda', 2, 3)])];
    looped.push(snapshot(3, [disk('vda', 3, 2)]));
    expect(decideOn(looped, { prev: prevAt('s1') }).row).toBe(4);
  });
});

describe('row 6: something newer on the chain', () => {
  it('interval takes the newest and names those passed over', () => {
    const decision = decideOn(chain(5), { prev: prevAt('s1') });
    expect(decision).toMatchObject({ row: 6, result: 'create', warnings: [] });
    expect(decision).toMatchObject({ skipped: ['s2', 's3', 's4'], skippedCount: 3 });
    expect(decision.target?.disks[0]).toMatchObject({ method: 'incremental', baseSnapshot: 's1' });
  });
  it('names at most 100 of them, and counts all', () => {
    const decision = decideOn(chain(152), { prev: prevAt('s1') });
    expect(decision.skipped).toHaveLength(MAX_SKIPPED_NAMES);
    expect(decision.skippedCount).toBe(150);
    expect(decision.skipped[0]).toBe('s2');
  });
  it('continuous takes the next', () => {
    const decision = decideOn(chain(5), { prev: prevAt('s1'), type: 'continuous' });
    expect(decision).toMatchObject({ row: 6, target: { hostSnapshot: 's2' }, skippedCount: 0 });
  });
  it('lets disks appear, with a warning, and vanish', () => {
    const view = [
      snapshot(1, [disk('vda', 1, null), disk('vdb', 2, null)]),
      snapshot(2, [disk('vda', 3, 1), disk('vdc', 4, null)]),
    ];
    const decision = decideOn(view, { prev: prevAt('s1') });
    expect(decision.row).toBe(6);
    expect(methods(decision)).toEqual({ vda: 'incremental', vdc: 'full' });
    expect(decision.warnings).toEqual(['disk vdc is sent in full: new disk']);
  });
  it('takes a disk that did not change as an increment on itself', () => {
    const view = [snapshot(1, [disk('vda', 1, null)]), snapshot(2, [disk('vda', 1, null)])];
    expect(methods(decideOn(view, { prev: prevAt('s1') }))).toEqual({ vda: 'incremental' });
  });
  it('lets disks grow and shrink', () => {
    const sized = (virtualSizeBytes: number) => [
      snapshot(1, [disk('vda', 1, null)]),
      snapshot(2, [disk('vda', 2, 1, { virtualSizeBytes })]),
    ];
    for (const size of [1 << 20, 2 ** 31]) {
      const decision = decideOn(sized(size), { prev: prevAt('s1') });
      expect(decision.target?.disks[0]).toMatchObject({ method: 'incremental', virtualSizeBytes: size });
      expect(decision.target?.disks[0]?.reason).toMatch(/grew|shrank/);
    }
  });
  it('follows the chain through layers of snapshots in between', () => {
    expect(decideOn(chain(30), { prev: prevAt('s2') }).row).toBe(6);
  });
  it('locks again, with a warning, what is proven and lost its lock', () => {
    const decision = decideOn(chain(2), { prev: prevAt('s1') }, { prevLocked: false });
    expect(decision).toMatchObject({ row: 6, warnings: [expect.stringContaining('locked again')] });
  });
});

describe('row 7: nothing newer', () => {
  it('answers none, up to date', () => {
    const decision = decideOn(chain(3), { prev: prevAt('s3') });
    expect(decision).toMatchObject({ row: 7, result: 'none', waiting: false, target: null, warnings: [] });
  });
  it('gives way to row 4 when prev is in doubt: the published snapshot is sent again, whole', () => {
    const prevDoubts = new Map([
      ['vda', 'the file has another inode'],
      ['vdb', null],
    ]);
    const view = [snapshot(1, [disk('vda', 1, null), disk('vdb', 2, null)])];
    const decision = decideOn(view, { prev: prevAt('s1') }, { prevDoubts });
    expect(decision).toMatchObject({ result: 'create', row: 4, target: { hostSnapshot: 's1' } });
    expect(methods(decision)).toEqual({ vda: 'full', vdb: 'full' });
    expect(decision.warnings).toHaveLength(2);
  });
  it('says that CDP host snapshots are passed over', () => {
    const view = [...chain(1), snapshot(2, [disk('vda', 2, 1, { format: 'cdp' })], { kind: 'cdp' })];
    const decision = decideOn(view, { prev: prevAt('s1') });
    expect(decision).toMatchObject({ row: 7, warnings: [expect.stringContaining('CDP')] });
  });
});

describe('the answer', () => {
  const proof: LayerProof = {
    device: '1',
    inode: '2',
    sizeBytes: 3,
    mtimeNs: '4',
    ctimeNs: '5',
    headerDigest: '6',
  };
  it('adds fingerprints and proofs, and leaves paths at home', () => {
    const answer = answerOf(decideOn(chain(1)), new Map([['na', 'ff']]), new Map([['vda', [proof]]]));
    expect(answer.target?.disks).toEqual([
      {
        disk: 'vda',
        method: 'full',
        baseSnapshot: null,
        reason: 'first copy',
        virtualSizeBytes: 1 << 30,
        sourceNode: 'na',
        senderFingerprint: 'ff',
        proof: [proof],
      },
    ]);
  });
  it('waits for a node that has not registered yet', () => {
    expect(() => answerOf(decideOn(chain(1)), new Map(), new Map())).toThrow(NodeUnknownError);
  });
  it('compares proofs layer by layer', () => {
    expect(proofDoubt([proof, proof], [proof, { ...proof }])).toBeNull();
    expect(proofDoubt([proof], [{ ...proof, device: '7' }])).toBeNull();
    expect(proofDoubt([proof], [{ ...proof, device: '7', ctimeNs: '6' }])).toContain('time of change');
    expect(proofDoubt([], [])).toContain('nothing is known');
    expect(proofDoubt([proof], [proof, proof])).toContain('1 layers and now has 2');
    expect(proofDoubt([proof, proof], [proof, { ...proof, inode: '9' }])).toBe(
      'layer 1 from the top has another inode',
    );
  });
});
