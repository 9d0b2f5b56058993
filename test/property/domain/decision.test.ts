import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide, MAX_SKIPPED_NAMES } from '../../../src/domain/decision.ts';
import type { DecisionInput } from '../../../src/domain/decision-input.ts';
import type { DiskView, HostView, SnapshotView } from '../../../src/domain/host-view.ts';

const DISKS = ['vda', 'vdb', 'vdc'];

interface Step {
  readonly disks: readonly string[];
  /** How each disk goes on: from its last layer, an older one, or from nothing. */
  readonly parents: readonly number[];
  readonly cdp: boolean;
  readonly sizes: readonly number[];
}

const step: fc.Arbitrary<Step> = fc.record({
  disks: fc.subarray(DISKS, { minLength: 1 }),
  parents: fc.array(fc.integer({ min: -1, max: 4 }), { minLength: 3, maxLength: 3 }),
  cdp: fc.integer({ min: 0, max: 9 }).map(value => value === 0),
  sizes: fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 3, maxLength: 3 }),
});

/** A life of a host: snapshots whose disks go on, are reverted, appear and vanish. */
function viewOf(steps: readonly Step[]): HostView {
  const layers = new Map<string, number[]>(DISKS.map(disk => [disk, []]));
  let id = 0;
  const snapshots = steps.map(({ disks, parents, cdp, sizes }, index): SnapshotView => {
    const views = disks.map((disk, at): DiskView => {
      const earlier = layers.get(disk) ?? [];
      const back = parents[at] ?? 0;
      const parentId = back < 0 ? null : (earlier.at(-1 - back) ?? null);
      id += 1;
      earlier.push(id);
      const format = cdp ? 'cdp' : 'qcow2';
      const virtualSizeBytes = (sizes[at] ?? 1) * 65536;
      return { disk, diskSnapshotId: id, parentId, node: 'na', path: `/${id}`, format, virtualSizeBytes };
    });
    const kind = cdp ? 'cdp' : 'qcow2';
    const sequence = (index + 1) * 10;
    return { uuid: `s${index}`, sequence, originSite: 'a', takenAtMs: sequence, kind, disks: views };
  });
  return { host: 'web-1', snapshots };
}

const anyUuid = fc.option(fc.integer({ min: 0, max: 14 }).map(index => `s${index}`));

const input: fc.Arbitrary<DecisionInput> = fc
  .record({
    steps: fc.array(step, { maxLength: 12 }),
    known: fc.integer({ min: 0, max: 9 }).map(value => value > 0),
    prev: anyUuid,
    unfinished: anyUuid,
    type: fc.constantFrom('interval' as const, 'continuous' as const),
    replicaHoldsHost: fc.boolean(),
    replicaDoubts: fc.subarray(DISKS, { maxLength: 1 }),
    comparable: fc.option(
      fc.array(
        fc.record({
          disk: fc.constantFrom(...DISKS),
          what: fc.constantFrom('replica' as const, 'seed' as const),
        }),
        { maxLength: 3 },
      ),
    ),
    proven: fc.subarray(DISKS, { minLength: 1 }),
    doubted: fc.subarray(DISKS, { maxLength: 1 }),
    prevLocked: fc.boolean(),
  })
  .map(made => ({
    view: made.known ? viewOf(made.steps) : null,
    prevLocked: made.prevLocked,
    prevDoubts: new Map<string, string | null>([
      ...made.proven.map((disk): [string, null] => [disk, null]),
      ...made.doubted.map((disk): [string, string] => [disk, 'edited']),
    ]),
    query: {
      fence: { scheduleUuid: 'u', generation: 1, plan: 1 },
      replicaSite: 'b',
      scheduleName: 'nightly',
      host: 'web-1',
      type: made.type,
      taskUuid: 'task',
      lockType: 'remote_schedule_u',
      prev:
        made.prev === null
          ? null
          : { hostSnapshot: made.prev, taskUuid: 'prev-task', position: null, proofs: [] },
      unfinished: made.unfinished === null ? null : { hostSnapshot: made.unfinished },
      replicaHoldsHost: made.replicaHoldsHost,
      replicaDoubts: made.replicaDoubts.map(disk => ({ disk, doubt: 'digest' })),
      ...(made.comparable !== null && { comparable: made.comparable }),
    },
  }));

const snapshotsOf = ({ view }: DecisionInput) => view?.snapshots ?? [];
const holds = (property: (made: DecisionInput) => void) =>
  fc.assert(fc.property(input, property), { numRuns: 500 });

describe('the decision', () => {
  it('never throws, and the same input gives the same decision', () => {
    holds(made => {
      expect(decide(structuredClone(made))).toEqual(decide(made));
    });
  });

  it('answers with a whole host snapshot of the view, every disk of it once', () => {
    holds(made => {
      const { target } = decide(made);
      if (target === null) return;
      const chosen = snapshotsOf(made).find(({ uuid }) => uuid === target.hostSnapshot);
      expect(chosen?.kind).toBe('qcow2');
      expect(target.disks.map(({ disk }) => disk)).toEqual(chosen?.disks.map(({ disk }) => disk));
    });
  });

  it('takes as base only a proven disk of prev that is an ancestor, else says why not', () => {
    holds(made => {
      const { target } = decide(made);
      const all = snapshotsOf(made).flatMap(({ disks }) => disks);
      for (const choice of target?.disks ?? []) {
        expect(choice.reason).not.toBe('');
        if (choice.method !== 'incremental') {
          expect(choice.baseSnapshot).toBeNull();
          continue;
        }
        const ofSnapshot = (uuid: string | null | undefined) =>
          snapshotsOf(made)
            .find(snapshot => snapshot.uuid === uuid)
            ?.disks.find(({ disk }) => disk === choice.disk);
        const base = ofSnapshot(choice.baseSnapshot);
        expect(choice.baseSnapshot).toBe(made.query.prev?.hostSnapshot);
        expect(made.prevDoubts.get(choice.disk)).toBeNull();
        let at = ofSnapshot(target?.hostSnapshot);
        while (at !== undefined && at.diskSnapshotId !== base?.diskSnapshotId) {
          const { parentId } = at;
          at = all.find(({ diskSnapshotId }) => diskSnapshotId === parentId);
        }
        expect(at).toBeDefined();
      }
    });
  });

  it('never goes back behind what is published', () => {
    holds(made => {
      const { target } = decide(made);
      const prev = snapshotsOf(made).find(
        ({ uuid, kind }) => uuid === made.query.prev?.hostSnapshot && kind === 'qcow2',
      );
      if (target === null || prev === undefined) return;
      expect(target.sourceSequence).toBeGreaterThanOrEqual(prev.sequence);
      if (target.hostSnapshot === prev.uuid) {
        expect(target.disks.every(({ method }) => method !== 'incremental')).toBe(true);
        const doubts = prev.disks.map(({ disk }) => made.prevDoubts.get(disk));
        const isDoubted = doubts.some(doubt => doubt !== null) || made.query.replicaDoubts.length > 0;
        expect(isDoubted).toBe(true);
      }
    });
  });

  it('answers none only when nothing is newer', () => {
    holds(made => {
      const decision = decide(made);
      expect(decision.result === 'none').toBe(decision.target === null);
      if (decision.result !== 'none') return;
      const complete = snapshotsOf(made).filter(({ kind }) => kind === 'qcow2');
      if (decision.waiting) expect(complete).toEqual([]);
      else expect(complete.at(-1)?.uuid).toBe(made.query.prev?.hostSnapshot);
      expect(decision.row).toBe(decision.waiting ? 2 : 7);
    });
  });

  it('compares where B has something of a disk that cannot go on from prev, and only there', () => {
    holds(made => {
      for (const { disk, method } of decide(made).target?.disks ?? []) {
        const isComparable = made.query.comparable?.some(candidate => candidate.disk === disk) ?? false;
        expect(method === 'compare' ? isComparable : method === 'full' ? !isComparable : true).toBe(true);
      }
    });
  });

  it('is the same but for full and compare, whatever B has to compare with', () => {
    holds(made => {
      const { comparable: _, ...query } = made.query;
      const without = decide({ ...made, query });
      const asFull = decide(made).target?.disks.map(({ disk, method, baseSnapshot }) => ({
        disk,
        method: method === 'compare' ? 'full' : method,
        baseSnapshot,
      }));
      expect(asFull).toEqual(
        without.target?.disks.map(({ disk, method, baseSnapshot }) => ({ disk, method, baseSnapshot })),
      );
      expect(decide(made).row).toBe(without.row);
    });
  });

  it('warns of every full and compare once something is published', () => {
    holds(made => {
      const { target, warnings } = decide(made);
      if (made.query.prev === null) return;
      const wholes = (target?.disks ?? []).filter(({ method }) => method !== 'incremental');
      for (const { disk, method, reason } of wholes) {
        expect(warnings).toContain(
          reason === 'new disk'
            ? `disk ${disk} is sent in full: new disk`
            : `unexpected ${method} of disk ${disk}: ${reason}`,
        );
      }
    });
  });

  it('names at most 100 passed over, all of them between prev and target', () => {
    holds(made => {
      const { skipped, skippedCount, target } = decide(made);
      expect(skipped.length).toBe(Math.min(skippedCount, MAX_SKIPPED_NAMES));
      if (skippedCount > 0) expect(skipped).not.toContain(target?.hostSnapshot);
    });
  });
});
