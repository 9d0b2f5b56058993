/** Every signal in every step: a run of two whole sites is held at a step, told something twice, and let go. */
import { randomUUID } from 'node:crypto';
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { lockTypeOf, releaseWorkflowId, scheduleWorkflowId } from '../../src/contract/names.ts';
import { type Fault, readFired } from '../../src/lib/fault-injection.ts';
import type { FaultPoint } from '../../src/lib/fault-points.ts';
import { awaiting, withStopped } from './e2e-faults.ts';
import { until } from './e2e-host.ts';
import { filesUnder, invariantsOf, rowsOf } from './e2e-look.ts';
import { type Operator, openOperator } from './operator.ts';
import { qemuImg, qemuIo } from './qemu.ts';
import { startTwoSites, type TwoSites } from './two-sites.ts';

/** The effect of each activity of a task, in the order in which they come. */
const EFFECTS: readonly FaultPoint[] = [
  'replica.commit.createEmptyTask',
  'source.commit.requestStop',
  'source.commit.querySyncInfo',
  'source.commit.releaseOtherLocks',
  'replica.commit.recordSyncInfo',
  'replica.commit.openSession',
  'source.commit.beginSender',
  'replica.commit.adoptLayout',
  'replica.partial.fdatasync',
  'replica.commit.markReceived',
  'source.commit.requestStopOf',
  'source.commit.endSender',
  'replica.seal.rename',
  'replica.commit.markSealed',
  'replica.commit.finishTask',
];

export const STEPS = EFFECTS.flatMap(point => [
  { point, when: 'before' as const },
  { point, when: 'after' as const },
]);
export type Step = (typeof STEPS)[number];

export const WORDS = [
  'pause',
  'drain',
  'release',
  'runNow',
  'updateSettings',
  'enable',
  'delete',
  'purge',
  'force',
  'forceSilent',
] as const;
export type Word = (typeof WORDS)[number];

export interface Cell {
  readonly step: Step;
  readonly word: Word;
  /** There is a published point already, so an increment is sent. */
  readonly isIncrement: boolean;
}

export const nameOf = ({ step, word, isIncrement }: Cell): string =>
  `${word} ${step.when} ${step.point}, ${isIncrement ? 'an increment' : 'a first copy'}`;

/** All of them; first copies and increments take turns. */
export const ALL_CELLS: readonly Cell[] = STEPS.flatMap((step, row) =>
  WORDS.map((word, column) => ({ step, word, isIncrement: (row + column) % 2 === 1 })),
);

/** Each effect once, before or after it by turns, and each word at least once. */
export const SHORT_CELLS: readonly Cell[] = EFFECTS.map((point, index) => ({
  step: { point, when: index % 2 === 0 ? ('after' as const) : ('before' as const) },
  word: WORDS[(index * 7) % WORDS.length] ?? 'pause',
  isIncrement: index % 2 === 1,
}));

interface Live {
  readonly sites: TwoSites;
  readonly operator: Operator;
  readonly name: string;
  readonly uuid: string;
  readonly target: string;
}

/** Two sites that all cells share; each cell has a host and a schedule of its own, and ends with it deleted. */
export interface SignalBench {
  run(cell: Cell): Promise<void>;
  close(): Promise<void>;
}

export async function startSignalBench(): Promise<SignalBench> {
  let plan = '';
  const sites = await startTwoSites({
    prepare: async ({ dataDir, databaseUrl, temporalAddress }) => {
      plan = join(dataDir, 'faults.json');
      writeFileSync(plan, JSON.stringify({ faults: [] }));
      const environment = { OFFSITE_FAULTS: plan, OFFSITE_FAULTS_ARMED: 'test' };
      return { databaseUrl, temporal: { address: temporalAddress }, environment };
    },
  });
  const operator = await openOperator(sites);
  let count = 0;
  return {
    async run(cell) {
      count += 1;
      await runCell({ sites, operator, plan, name: `h${count}` }, cell);
    },
    async close() {
      await operator.close();
      await sites.close();
    },
  };
}

async function runCell(
  { sites, operator, plan, name }: Pick<Live, 'sites' | 'operator' | 'name'> & { readonly plan: string },
  cell: Cell,
): Promise<void> {
  const image = (index: number) => join(sites.imageDir, `${name}-${index}.qcow2`);
  await qemuImg('create', '-q', '-f', 'qcow2', image(1), '1M');
  await qemuIo(image(1), ['write -P 1 0 128k']);
  let target = await operator.importDisks(name, { vda: image(1) });
  let uuid = '';
  if (cell.isIncrement) {
    uuid = await operator.create(name, name);
    await operator.untilPublished(name, target);
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', image(1), '-F', 'qcow2', image(2));
    await qemuIo(image(2), ['write -P 2 64k 128k']);
    target = await operator.importDisks(name, { vda: image(2) });
  }
  const held = hold(sites, plan, cell.step);
  try {
    if (cell.isIncrement) await operator.ask(name, 'runNow');
    else uuid = await operator.create(name, name);
    await held.untilReached();
    await say(cell.word, { sites, operator, name, uuid, target }, held.release);
  } finally {
    held.release();
  }
}

/** Stops the world at one step, until released. */
function hold(sites: TwoSites, plan: string, { point, when }: Step) {
  const id = randomUUID();
  const holdFile = join(sites.dataDir, `hold-${id}`);
  writeFileSync(holdFile, '');
  const fault: Fault = { id, point, when, kind: 'hold', holdFile, delayMs: 120_000 };
  writeFileSync(`${plan}.new`, JSON.stringify({ faults: [fault] }));
  renameSync(`${plan}.new`, plan);
  return {
    untilReached: () =>
      awaiting(`the hold ${when} ${point}`, () => readFired(plan).some(fired => fired.id === id)),
    release: () => {
      if (existsSync(holdFile)) rmSync(holdFile);
    },
  };
}

/** Says it twice while the step is held, lets go, and looks at where it ends. */
async function say(word: Word, live: Live, release: () => void): Promise<void> {
  switch (word) {
    case 'pause':
    case 'drain':
    case 'release':
      return pausing(word, live, release);
    case 'runNow':
      await twice(live, 'runNow');
      release();
      await live.operator.untilStatus(
        live.name,
        'another run, which finds nothing',
        ({ lastTask, state }) => lastTask?.outcome === 'upToDate' && state === 'waiting',
      );
      return goingOn(live);
    case 'enable':
      await twice(live, 'resume');
      release();
      return goingOn(live);
    case 'updateSettings':
      await twice(live, 'updateSettings', { settings: { everyMs: 7_200_000, rpoMs: 60_000 } });
      release();
      await goingOn(live, async () => {
        const { settings } = await live.operator.status(live.name);
        expect(settings).toMatchObject({ everyMs: 7_200_000, rpoMs: 60_000 });
        await rowSays(live, `(settings->>'everyMs')::int = 7200000 and (settings->>'rpoMs')::int = 60000`);
      });
      return;
    default:
      return deleting(word, live, release);
  }
}

async function twice({ operator, name }: Live, ...said: [Parameters<Operator['ask']>[1], object?]) {
  expect(await operator.ask(name, ...said)).toMatchObject({ accepted: true });
  expect(await operator.ask(name, ...said)).toMatchObject({ accepted: true, reason: expect.any(String) });
}

async function pausing(word: 'pause' | 'drain' | 'release', live: Live, release: () => void): Promise<void> {
  const { operator, name, target } = live;
  await twice(live, 'pause', { mode: word === 'pause' ? 'now' : word });
  expect(await operator.ask(name, 'runNow')).toMatchObject({ accepted: false });
  release();
  const { lastTask } = await operator.untilStatus(
    name,
    'the pause',
    ({ state, note, runningTask }) => state === 'paused' && note === null && runningTask === null,
  );
  await rowSays(live, 'paused and not draining and not releasing');
  if (word === 'drain') expect(lastTask).toMatchObject({ outcome: 'published', hostSnapshot: target });
  const isPublished = lastTask?.outcome === 'published';
  if (word === 'release' && !isPublished) {
    expect(await partials(live)).toEqual([]);
    expect(await locksOf(live)).not.toContain(target);
  }
  await sound(live);
  await twice(live, 'resume');
  await operator.ask(name, 'runNow');
  await goingOn(live);
}

/** The target is published in the end, by whichever task; A holds that and nothing else. */
async function goingOn(live: Live, look: () => Promise<void> = async () => {}): Promise<void> {
  const { operator, name, target } = live;
  await until(
    `${target} published`,
    () => pointsOf(live),
    found => found.includes(target),
  );
  const { lastTask } = await operator.untilStatus(
    name,
    'rest',
    ({ state, runningTask }) => state === 'waiting' && runningTask === null,
  );
  // The lock of the point before goes with the next run.
  await operator.ask(name, 'runNow');
  await operator.untilStatus(
    name,
    'nothing newer',
    ({ state, lastTask: newest }) =>
      state === 'waiting' &&
      newest?.outcome === 'upToDate' &&
      newest.generation > (lastTask?.generation ?? 0),
  );
  expect(await locksOf(live)).toEqual([target]);
  expect(await partials(live)).toEqual([]);
  await look();
  await sound(live);
  await operator.ask(name, 'delete', { purge: false });
  await untilGone(live);
}

async function deleting(word: Word, live: Live, release: () => void): Promise<void> {
  const { sites, uuid } = live;
  const request = { purge: word === 'purge', force: word.startsWith('force') };
  const before = await pointsOf(live);
  if (word === 'forceSilent') {
    await withStopped(sites, ['worker-a'], async () => {
      await sendTwice(live, request);
      release();
      await untilGone(live);
      const { status } = await sites.client.workflow.getHandle(releaseWorkflowId(uuid)).describe();
      expect(status.name).toBe('RUNNING');
    });
  } else {
    await sendTwice(live, request);
    release();
    await untilGone(live);
  }
  // By force the source is released by a workflow of its own; with a source that answers it may be over already.
  if (request.force)
    await sites.client.workflow.getHandle(releaseWorkflowId(uuid)).result().catch(ignoreUnknown);
  expect(await locksOf(live)).toEqual([]);
  const tombstones = `select 1 from schedule_fences where schedule_uuid = '${uuid}' and tombstoned_at is not null`;
  expect(await rowsOf(sites, 'a', tombstones)).toHaveLength(1);
  expect(await partials(live)).toEqual([]);
  const after = await pointsOf(live);
  if (word === 'purge') {
    expect(after).toEqual([]);
    expect((await filesUnder(sites.replicaRoot)).filter(file => file.startsWith(`${live.name}/`))).toEqual(
      [],
    );
  } else {
    expect(after).toEqual(expect.arrayContaining(before));
  }
  await sound(live);
}

/** The second may find the workflow gone: that is an answer, too. */
async function sendTwice({ sites, name }: Live, request: object): Promise<void> {
  const handle = sites.client.workflow.getHandle(scheduleWorkflowId('b', name));
  for (const requestId of [randomUUID(), randomUUID()]) {
    await handle.signal('delete', { requestId, ...request }).catch(ignoreUnknown);
  }
}

function ignoreUnknown(error: unknown): void {
  if ((error as Error).name !== 'WorkflowNotFoundError') throw error;
}

async function untilGone({ sites, name, uuid }: Live): Promise<void> {
  await sites.client.workflow.getHandle(scheduleWorkflowId('b', name)).result().catch(ignoreUnknown);
  await until(
    'the row deleted',
    () =>
      rowsOf(
        sites,
        'b',
        `select 1 from remote_backup_schedules where uuid = '${uuid}' and deleted_at is not null`,
      ),
    rows => rows.length === 1,
  );
}

async function rowSays({ sites, uuid }: Live, condition: string): Promise<void> {
  const sql = `select 1 from remote_backup_schedules where uuid = '${uuid}' and ${condition}`;
  await until(
    condition,
    () => rowsOf(sites, 'b', sql),
    rows => rows.length === 1,
  );
}

const locksOf = async ({ sites, uuid }: Live): Promise<string[]> =>
  (
    await rowsOf<{ uuid: string }>(
      sites,
      'a',
      `select hs.uuid from host_snapshot_locks l join host_snapshots hs on hs.id = l.host_snapshot_id
       where l.lock_type = '${lockTypeOf(uuid)}'`,
    )
  ).map(row => row.uuid);

const pointsOf = async ({ sites, name }: Live): Promise<string[]> =>
  (
    await rowsOf<{ uuid: string }>(
      sites,
      'b',
      `select hs.uuid from host_snapshots hs join hosts h on h.id = hs.host_id
       where h.ident = '${name}' and hs.state = 'complete' order by hs.sequence`,
    )
  ).map(row => row.uuid);

const partials = async ({ sites, name }: Live): Promise<string[]> =>
  (await filesUnder(sites.replicaRoot)).filter(
    file => file.startsWith(`${name}/`) && /\.(partial|map|progress)$/.test(file),
  );

/** Section 9 of the design; what an ending task leaves to others may take a moment. */
async function sound({ sites, name }: Live): Promise<void> {
  await until(
    'a sound state',
    () => invariantsOf(sites, true, [name]),
    found => found.length === 0,
    20_000,
  );
}
