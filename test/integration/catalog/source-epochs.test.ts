import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import type { LayerFile } from '../../../src/catalog/register-snapshot.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import { createEpochRows, type RegisterEpoch } from '../../../src/catalog/source-epochs.ts';
import { createSourceInventory } from '../../../src/catalog/source-inventory.ts';
import { createSubscriptionRows } from '../../../src/catalog/subscriptions.ts';
import type { SyncAnswer, SyncQuery } from '../../../src/contract/sync.ts';
import { decide } from '../../../src/domain/decision.ts';
import type { HostView } from '../../../src/domain/host-view.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, cursorOf, fenceOf, fileAt, fresh, MIB, NOTHING, planOf, queryOf } from './fixtures.ts';

const database = useTestDatabase();
const epochs = () => createEpochRows(database().db);
const inventory = () => createSourceInventory(database().db);
const subscriptions = () => createSubscriptionRows(database().db);
const catalog = () => createSourceCatalog(database().db, { site: 'a', instance: 1 });
const AT_MS = 1_700_000_000_000;

let host: string;
beforeEach(() => {
  host = fresh('host');
});

/** An epoch of two disks. @param chain what the base of `vda` stands on */
function epochOf(chain: readonly LayerFile[] = []): RegisterEpoch {
  const uuid = randomUUID();
  return {
    ...{ host, uuid, baseUuid: randomUUID(), originSite: 'a', takenAtMs: AT_MS },
    disks: ['vda', 'vdb'].map(disk => ({
      ...{ disk, node: 'a1', virtualSizeBytes: 64 * MIB },
      base: fileAt(`/images/${host}/${disk}.${uuid}.qcow2`),
      chain: disk === 'vda' ? chain : [],
      journal: fileAt(`/journals/${host}/${uuid}/${disk}`),
    })),
  };
}

/** What the decision would be told. */
async function viewOf(): Promise<HostView | null> {
  let seen: HostView | null = null;
  await catalog().answerSync(queryOf(host, fenceOf(randomUUID(), 1)), async ({ view }) => {
    seen = view;
    return NOTHING;
  });
  return seen;
}

describe('an epoch at its source', () => {
  it('is a base and a CDP host snapshot on it, registered once', async () => {
    const input = epochOf();
    const made = await epochs().registerEpoch(input);
    expect(made).toEqual({ uuid: input.uuid, baseSnapshot: input.baseUuid, epoch: 1 });
    expect(await epochs().registerEpoch(input)).toEqual(made);
    const listed = await inventory().listSnapshots({ host });
    expect(listed.map(({ snapshot, kind }) => [snapshot, kind])).toEqual([
      [input.baseUuid, 'qcow2'],
      [input.uuid, 'cdp'],
    ]);
    const view = await viewOf();
    const [base, cdp] = view?.snapshots ?? [];
    expect(cdp?.epoch).toMatchObject({ baseSnapshot: input.baseUuid, epoch: 1, newestCheckpoint: 0 });
    expect(cdp?.disks.map(({ parentId }) => parentId)).toEqual(
      base?.disks.map(({ diskSnapshotId }) => diskSnapshotId),
    );
  });

  it('a later one stands on the layers of the one before, and is an increment for who has that', async () => {
    const first = epochOf();
    await epochs().registerEpoch(first);
    await epochs().noteCheckpoint({ uuid: first.uuid, sequence: 7, atMs: AT_MS + 7 });
    await epochs().endEpoch({
      ...{ uuid: first.uuid, reason: 'the recorder died' },
      checkpoint: { sequence: 9, atMs: AT_MS + 9 },
    });
    const second = epochOf([first.disks[0]?.base ?? fileAt('/none')]);
    expect(await epochs().registerEpoch(second)).toMatchObject({ epoch: 2 });
    const decision = decide({
      view: await viewOf(),
      prevLocked: true,
      prevDoubts: new Map([
        ['vda', null],
        ['vdb', null],
      ]),
      query: queryOf(host, fenceOf(randomUUID(), 1), {
        ...{ type: 'continuous', canAppend: true, comparable: [] },
        prev: { ...cursorOf(first.uuid, randomUUID()), position: { epoch: 1, checkpoint: 9 } },
      }),
    });
    expect(decision.target?.hostSnapshot).toBe(second.baseUuid);
    expect(decision.target?.disks).toMatchObject([
      { disk: 'vda', method: 'incremental', baseSnapshot: first.baseUuid },
      { disk: 'vdb', method: 'full' },
    ]);
    expect(decision.reason).toContain('whose epoch ended: the recorder died');
  });

  it('its checkpoint only rises, and not after its end', async () => {
    const input = epochOf();
    await epochs().registerEpoch(input);
    const note = (sequence: number) =>
      epochs().noteCheckpoint({ uuid: input.uuid, sequence, atMs: AT_MS + sequence });
    expect(await note(5)).toBe(true);
    expect(await note(3)).toBe(true);
    await epochs().endEpoch({ uuid: input.uuid, reason: 'rolled over', checkpoint: null });
    await epochs().endEpoch({ uuid: input.uuid, reason: 'again', checkpoint: { sequence: 9, atMs: AT_MS } });
    expect(await note(8)).toBe(false);
    expect((await viewOf())?.snapshots.at(-1)?.epoch).toMatchObject({
      ...{ newestCheckpoint: 5, newestCheckpointAtMs: AT_MS + 5, endedReason: 'rolled over' },
    });
    expect(await catalog().findJournal({ hostSnapshot: input.uuid, disk: 'vdb' })).toEqual({
      directory: input.disks[1]?.journal.path,
      endedAtCheckpoint: 5,
    });
  });

  it('is found open by the next recorder, and not once it has ended or was forgotten', async () => {
    const input = epochOf();
    await epochs().registerEpoch(input);
    expect(await epochs().openEpochs(host)).toMatchObject([
      {
        ...{ uuid: input.uuid, newestCheckpoint: 0 },
        journals: input.disks.map(({ disk, journal }) => ({ disk, directory: journal.path })),
      },
    ]);
    await expect(inventory().forget(input.baseUuid)).rejects.toMatchObject({
      code: 'NotForgettable',
      message: expect.stringContaining(`the base of the CDP host snapshot ${input.uuid}`),
    });
    await inventory().forget(input.uuid);
    expect(await epochs().openEpochs(host)).toEqual([]);
    expect(await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 1, atMs: AT_MS })).toBe(false);
    await inventory().forget(input.baseUuid);
  });

  it('keeps markers up to the noted checkpoint, each once', async () => {
    const input = epochOf();
    await epochs().registerEpoch(input);
    const markers = [{ sequence: 4, atMs: AT_MS, name: 'before the upgrade' }];
    for (const sequence of [4, 6]) {
      await epochs().noteCheckpoint({ uuid: input.uuid, sequence, atMs: AT_MS, markers });
    }
    const kept = await database()
      .db('cdp_markers as m')
      .join('host_snapshots as hs', 'hs.id', 'm.host_snapshot_id')
      .where('hs.uuid', input.uuid)
      .select('m.name');
    expect(kept).toEqual([{ name: 'before the upgrade' }]);
  });
});

describe('a schedule that waits is told', () => {
  let scheduleUuid: string;
  let input: RegisterEpoch;
  let generation: number;
  beforeEach(async () => {
    [scheduleUuid, generation, input] = [randomUUID(), 0, epochOf()];
    await epochs().registerEpoch(input);
    await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 5, atMs: AT_MS });
  });

  const ask = (answer: SyncAnswer, change: Partial<SyncQuery> = {}) => {
    generation += 1;
    return catalog().answerSync(queryOf(host, fenceOf(scheduleUuid, generation), change), async () => answer);
  };
  const due = async () => {
    const all = await subscriptions().dueSubscriptions();
    return all.filter(waiting => waiting.scheduleUuid === scheduleUuid);
  };

  it('of checkpoints once after each answer, without a place in the order', async () => {
    await ask(NOTHING);
    expect(await due()).toEqual([]);
    await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 6, atMs: AT_MS });
    const [waiting] = await due();
    expect(waiting).toMatchObject({ host, isCheckpoint: true });
    await subscriptions().noteTold(waiting ?? ({} as never));
    await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 7, atMs: AT_MS });
    expect(await due()).toEqual([]);
    await ask(NOTHING);
    expect(await due()).toEqual([]);
    await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 8, atMs: AT_MS });
    expect(await due()).toMatchObject([{ isCheckpoint: true }]);
  });

  it('again when it asked between the word and its note', async () => {
    await ask(NOTHING);
    await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 6, atMs: AT_MS });
    const [waiting] = await due();
    await ask(NOTHING);
    await subscriptions().noteTold(waiting ?? ({} as never));
    await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 7, atMs: AT_MS });
    expect(await due()).toMatchObject([{ isCheckpoint: true }]);
  });

  it('of what lies beyond the checkpoint that it was answered', async () => {
    const target = answerOf(input.uuid, [planOf({ method: 'append', baseSnapshot: input.baseUuid })]).target;
    if (target === null) throw new Error('an answer without a target');
    const position = { epoch: 1, checkpoint: 5 };
    await ask({ ...NOTHING, result: 'create', target: { ...target, sourceSequence: 2, position } });
    expect(await due()).toEqual([]);
    await epochs().noteCheckpoint({ uuid: input.uuid, sequence: 6, atMs: AT_MS });
    expect(await due()).toMatchObject([{ isCheckpoint: true }]);
  });

  it('of a later epoch, as of any snapshot', async () => {
    await ask(NOTHING);
    await epochs().registerEpoch(epochOf());
    expect(await due()).toMatchObject([{ isCheckpoint: false, sequence: 4 }]);
  });
});
