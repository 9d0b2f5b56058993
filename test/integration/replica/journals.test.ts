/** Journals from files at A to files at B, over TLS and a real catalog. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import type { Epoch } from '../../../src/contract/fence.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { openJournalSource, type RecordedJournal } from '../../../src/images/cdp/journal-source.ts';
import { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import { createSessionDirectory } from '../../../src/sites/session-directory.ts';
import { loadIdentity, type NodeIdentity } from '../../../src/transfer/identity.ts';
import { sendJournal } from '../../../src/transfer/journal-sender.ts';
import type { JournalIdentity, SessionRecord } from '../../../src/transfer/ports.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { useTestDatabase } from '../../support/database.ts';
import { startTcpProxy, type TcpProxy } from '../../support/tcp-proxy.ts';
import { readAll, recordOf, recordsOf, START } from '../../unit/images/journal-fixtures.ts';
import { answerOf, fenceOf, MIB, newSchedule, planOf, publishTask } from '../catalog/fixtures.ts';

const database = useTestDatabase();
const CHILD = join(import.meta.dirname, 'journal-receiver-child.ts');
const DISKS = ['vda', 'vdb'] as const;
type Disk = (typeof DISKS)[number];
const SHORT = { backoffMinMs: 5, backoffMaxMs: 50, connectMs: 2_000, unreachableMs: 60_000 };
const nothing = (): void => {};
const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };

let root: string;
let catalog: ReplicaCatalog;
let spec: ScheduleSpec;
let base: string;
let epochUuid: string;
let a: NodeIdentity;
let b: NodeIdentity;
let writers: Record<Disk, JournalWriter>;
let endedAtCheckpoint: number | null;

const replicaRoot = (): string => join(root, 'replicas');
const journalAt = (disk: Disk): string => join(root, 'journals', disk);

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'offsite-test-'));
  [a, b] = (await Promise.all(['a', 'b'].map(name => loadIdentity(join(root, name))))) as [
    NodeIdentity,
    NodeIdentity,
  ];
  catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: replicaRoot() });
  spec = await newSchedule(catalog);
  [base, epochUuid] = [randomUUID(), randomUUID()];
  const answer = answerOf(
    base,
    DISKS.map(disk => planOf({ disk })),
  );
  await publishTask(catalog, spec.uuid, answer);
  const made = DISKS.map(async disk => {
    const identity = { epoch: epochUuid, host: spec.host, disk, virtualSizeBytes: 64 * MIB };
    const options = { directory: journalAt(disk), identity, segmentBytes: 2 * MIB };
    return [disk, await JournalWriter.create(options, START)] as const;
  });
  writers = Object.fromEntries(await Promise.all(made)) as Record<Disk, JournalWriter>;
  endedAtCheckpoint = null;
});
afterEach(async () => {
  await Promise.all(Object.values(writers).map(writer => writer.close()));
  await rm(root, { recursive: true });
});

interface AppendTask {
  readonly taskUuid: string;
  readonly epoch: Epoch;
  readonly disks: Record<Disk, string>;
  readonly finish: () => Promise<unknown>;
}

async function beginTask(): Promise<AppendTask> {
  const taskUuid = randomUUID();
  const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
  const fence = fenceOf(spec.uuid, generation);
  const answer = answerOf(
    epochUuid,
    DISKS.map(disk => planOf({ disk, method: 'append', baseSnapshot: base })),
  );
  if (answer.target === null) throw new Error('an answer without a target');
  const position = { epoch: 1, checkpoint: recordOf(9).sequence };
  const recorded = await catalog.recordSyncInfo({
    ...{ fence, taskUuid, node: 'b1' },
    answer: { ...answer, target: { ...answer.target, position, base } },
  });
  const epoch = { generation, plan: 1, openCount: 1 };
  for (const { diskTaskUuid } of recorded) {
    await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint: a.fingerprint });
  }
  const disks = Object.fromEntries(recorded.map(it => [it.disk, it.diskTaskUuid])) as AppendTask['disks'];
  const finish = async () => {
    for (const diskTaskUuid of Object.values(disks)) await catalog.markAppended({ fence, diskTaskUuid });
    return catalog.finishTask({ fence, taskUuid });
  };
  return { taskUuid, epoch, disks, finish };
}

async function write(from: number, to: number, payloadBytes = 4096): Promise<void> {
  for (const record of recordsOf(from, to, payloadBytes)) {
    await Promise.all(DISKS.map(disk => writers[disk].append(record)));
  }
  await Promise.all(DISKS.map(disk => writers[disk].sync()));
}

/** Records that were read for a disk, those that came twice included. */
const given: Record<string, number> = {};

function send(task: AppendTask, disk: Disk, port: number, checkpoint: number, followMs: number | null) {
  const stop = new AbortController();
  given[disk] = 0;
  const done = sendJournal({
    identity: a,
    offer: { host: '127.0.0.1', port, fingerprint: b.fingerprint, epoch: task.epoch },
    diskTaskUuid: task.disks[disk],
    attempt: 1,
    async openSource() {
      const source = await openJournalSource({
        ...{ directory: journalAt(disk), epochUuid, host: spec.host, disk },
        window: { checkpoint: recordOf(checkpoint).sequence, followMs },
        epochState: async () => ({ endedAtCheckpoint }),
      });
      return counting(source, disk);
    },
    ...{ throttle: createThrottle(null), signal: stop.signal, onProgress: nothing, log, limits: SHORT },
  });
  done.catch(nothing);
  return { done, stop: () => stop.abort(new Error('enough')) };
}

function counting(source: RecordedJournal, disk: Disk): RecordedJournal {
  return {
    identity: source.identity,
    get isDrained() {
      return source.isDrained;
    },
    async *read(from, signal) {
      for await (const records of source.read(from, signal)) {
        given[disk] = (given[disk] ?? 0) + records.length;
        yield records;
      }
      return undefined;
    },
    close: () => source.close(),
  };
}

const published = async (): Promise<number> => {
  const row = await database()
    .db('cdp_epochs as e')
    .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
    .where('hs.uuid', epochUuid)
    .first<{ newest_checkpoint: number }>('e.newest_checkpoint');
  return row.newest_checkpoint;
};

async function untilPublished(index: number): Promise<void> {
  while ((await published()) < recordOf(index).sequence)
    await new Promise(resolve => setTimeout(resolve, 10));
}

/** Where the records lie at B. */
async function replicaJournal(disk: Disk): Promise<string> {
  const row = await database()
    .db('snapshot_storages as st')
    .join('disk_snapshots as ds', 'ds.id', 'st.disk_snapshot_id')
    .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
    .join('disks as d', 'd.id', 'ds.disk_id')
    .where({ 'hs.uuid': epochUuid, 'd.ident': disk, 'st.format': 'cdp' })
    .first<{ path: string }>('st.path');
  return row.path;
}

interface Child {
  readonly port: number;
  kill(): Promise<void>;
}

async function startChild(): Promise<Child> {
  const child: ChildProcess = fork(CHILD, [database().url, replicaRoot(), join(root, 'b')]);
  const [port] = (await once(child, 'message')) as [number];
  return {
    port,
    async kill() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

describe('journals from A to B', { timeout: 120_000 }, () => {
  let child: Child;
  let proxy: TcpProxy;
  beforeEach(async () => {
    child = await startChild();
    proxy = await startTcpProxy({ host: '127.0.0.1', port: child.port });
  });
  afterEach(async () => {
    await proxy.close();
    await child.kill();
  });

  it('are followed and published, window after window, and end with their epoch', async () => {
    await write(0, 20);
    const first = await beginTask();
    const sendings = DISKS.map(disk => send(first, disk, proxy.port, 9, 600_000));
    await untilPublished(19);
    for (let from = 20; from < 120; from += 20) {
      await write(from, from + 20);
      await untilPublished(from + 19);
    }
    endedAtCheckpoint = recordOf(119).sequence;
    const sent = await Promise.all(sendings.map(({ done }) => done));
    for (const { durableBytes, connections } of sent) {
      expect({ durableBytes, connections }).toEqual({
        durableBytes: 120 * 72 + 108 * 4096 + 32,
        connections: 1,
      });
    }
    expect(await first.finish()).toMatchObject({ outcome: 'published', hostSnapshot: epochUuid });
    for (const disk of DISKS) {
      expect(await readAll(await replicaJournal(disk))).toEqual(recordsOf(0, 120));
      expect(given[disk]).toBe(120);
    }
    const markers = await database().db('cdp_markers').pluck<string[]>('name');
    expect(markers.sort()).toEqual(['before-49', 'before-99']);
  });

  it('go on where the last window ended, and send nothing twice', async () => {
    await write(0, 50);
    const first = await beginTask();
    await Promise.all(DISKS.map(disk => send(first, disk, proxy.port, 49, null).done));
    await first.finish();
    await write(50, 200);
    const second = await beginTask();
    await Promise.all(DISKS.map(disk => send(second, disk, proxy.port, 199, null).done));
    await second.finish();
    expect(await published()).toBe(recordOf(199).sequence);
    for (const disk of DISKS) {
      expect(given[disk]).toBe(150);
      expect(await readAll(await replicaJournal(disk))).toEqual(recordsOf(0, 200));
    }
  });

  it('lose nothing that was published when the receiver is killed again and again', async () => {
    const task = await beginTask();
    const sendings = DISKS.map(disk => send(task, disk, proxy.port, 9, 600_000));
    let newest = 0;
    let isWriting = true;
    const writing = (async () => {
      for (let from = 0; from < 1_500; from += 10) {
        await write(from, from + 10);
        await new Promise(resolve => setTimeout(resolve, 10));
      }
      isWriting = false;
    })();
    let kills = 0;
    while (isWriting || kills < 4) {
      await new Promise(resolve => setTimeout(resolve, 300 + Math.random() * 300));
      const before = await published();
      await child.kill();
      kills += 1;
      newest = await published();
      expect(newest).toBeGreaterThanOrEqual(before);
      // What the catalog has is in the files.
      for (const disk of newest > 0 ? DISKS : []) {
        const sequences = (await readAll(await replicaJournal(disk))).map(({ sequence }) => sequence);
        expect(sequences.at(-1)).toBeGreaterThanOrEqual(newest);
      }
      child = await startChild();
      proxy.retarget({ host: '127.0.0.1', port: child.port });
      proxy.cutNow();
    }
    await writing;
    endedAtCheckpoint = recordOf(1_499).sequence;
    await Promise.all(sendings.map(({ done }) => done));
    await task.finish();
    expect(kills).toBeGreaterThanOrEqual(4);
    expect(await published()).toBe(recordOf(1_499).sequence);
    for (const disk of DISKS) {
      expect(await readAll(await replicaJournal(disk))).toEqual(recordsOf(0, 1_500));
    }
  });

  it('are stopped by a newer epoch of their session, after which nothing is written for the old one', async () => {
    await write(0, 20);
    const task = await beginTask();
    const sending = send(task, 'vda', proxy.port, 9, 600_000);
    const other = send(task, 'vdb', proxy.port, 9, 600_000);
    await untilPublished(19);
    const fence = fenceOf(spec.uuid, task.epoch.generation);
    const epoch = { ...task.epoch, openCount: 2 };
    const diskTaskUuid = task.disks.vda;
    await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint: a.fingerprint });
    await write(20, 40);
    await expect(sending.done).rejects.toMatchObject({ code: 'Superseded' });
    const again = send({ ...task, epoch }, 'vda', proxy.port, 9, 600_000);
    await untilPublished(39);
    again.stop();
    other.stop();
    await Promise.allSettled([again.done, other.done]);
    expect(await readAll(await replicaJournal('vda'))).toEqual(recordsOf(0, 40));
  });
});

describe('the writer of a journal at B', () => {
  const directory = () => createSessionDirectory({ catalog, replicaRoot: replicaRoot() });
  const identityOf = (disk: Disk): JournalIdentity => ({
    ...{ epochUuid, host: spec.host, disk, virtualSizeBytes: 64 * MIB, start: START },
  });

  it('is one: a later one waits until the one before has ended', async () => {
    const sessions = directory();
    const task = await beginTask();
    const session = (await sessions.find(task.disks.vda)) as SessionRecord;
    const first = await sessions.openJournal(session, identityOf('vda'));
    await first.append(recordsOf(0, 10));
    let isOpen = false;
    const opening = sessions.openJournal(session, identityOf('vda')).then(sink => {
      isOpen = true;
      return sink;
    });
    expect(await first.takenOver).toMatchObject({ code: 'Superseded' });
    await first.commit();
    expect(isOpen).toBe(false);
    await first.close();
    const second = await opening;
    expect(second.end.nextIndex).toBe(10);
    await second.close();
  });

  it('refuses another journal than the catalog expects, and a disk that is no append', async () => {
    const sessions = directory();
    const task = await beginTask();
    const session = (await sessions.find(task.disks.vda)) as SessionRecord;
    for (const change of [
      { epochUuid: randomUUID() },
      { disk: 'vdb' },
      { host: 'other' },
      { virtualSizeBytes: 65 * MIB },
    ]) {
      const opened = sessions.openJournal(session, { ...identityOf('vda'), ...change });
      await expect(opened).rejects.toMatchObject({ code: 'PlanBroken' });
    }
    const stale = { ...session, epoch: { ...session.epoch, openCount: 0 } };
    await expect(sessions.openJournal(stale, identityOf('vda'))).rejects.toMatchObject({
      code: 'Superseded',
    });
  });
});
