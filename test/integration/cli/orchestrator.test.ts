import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { ScheduleSettings, ScheduleSpec } from '../../../src/contract/schedule.ts';
import type { Orchestrator } from '../../../src/orchestration/orchestrator.ts';
import { createOrchestrator } from '../../../src/orchestration/temporal-orchestrator.ts';
import { type StandInSite, startStandInSite } from './support/stand-in-site.ts';

const SITE = `s-${randomUUID().slice(0, 8)}`;
const SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: 900_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

const specOf = (name: string, host = name, replicaSite = SITE): ScheduleSpec => ({
  contractVersion: 1,
  uuid: randomUUID(),
  name,
  replicaSite,
  sourceSite: 'a',
  host,
});
const refOf = (name: string) => ({ replicaSite: SITE, name });

let orchestrator: Orchestrator;
let site: StandInSite;
beforeAll(async () => {
  const address = inject('temporalAddress');
  orchestrator = createOrchestrator({ temporal: { address } });
  site = await startStandInSite(address, SITE);
});
afterAll(async () => {
  for (const host of ['progress', 'waits', 'busy']) site.release(host);
  await orchestrator.close();
  await site.stop();
});

async function until<T>(look: () => Promise<T>, holds: (seen: T) => boolean): Promise<T> {
  for (;;) {
    const seen = await look();
    if (holds(seen)) return seen;
    await sleep(100);
  }
}

describe('startSchedule', () => {
  it('creates once, and finds an equal one', async () => {
    const spec = specOf('twice');
    const first = await orchestrator.startSchedule(spec, SETTINGS, { paused: true });
    expect(first).toMatchObject({ created: true, registered: true, spec, view: { reachable: true } });
    const again = await orchestrator.startSchedule({ ...spec, uuid: randomUUID() }, SETTINGS, {
      paused: false,
    });
    expect(again).toMatchObject({ created: false, spec, view: { status: { paused: true } } });
  });

  it('starts one workflow for two callers at once', async () => {
    const started = await Promise.all(
      [1, 2].map(() => orchestrator.startSchedule(specOf('at-once'), SETTINGS, { paused: false })),
    );
    expect(started.filter(({ created }) => created)).toHaveLength(1);
    expect(started[0]?.spec.uuid).toBe(started[1]?.spec.uuid);
  });

  it('refuses another host or other settings under the same name, and says what differs', async () => {
    await orchestrator.startSchedule(specOf('differs'), SETTINGS, { paused: false });
    const faster = orchestrator.startSchedule(
      specOf('differs'),
      { ...SETTINGS, everyMs: 60_000 },
      { paused: false },
    );
    await expect(faster).rejects.toMatchObject({
      code: 'ScheduleExists',
      message: expect.stringContaining('--every is 15m, not 1m'),
    });
    const other = orchestrator.startSchedule(specOf('differs', 'other'), SETTINGS, { paused: false });
    await expect(other).rejects.toThrow(/--host is differs, not other/);
  });

  it('tells the conflict with which a start failed', async () => {
    await expect(
      orchestrator.startSchedule(specOf('late', 'taken'), SETTINGS, { paused: false }),
    ).rejects.toMatchObject({
      code: 'ScheduleConflict',
      message: expect.stringContaining("schedule 'other' replicates host 'taken'"),
    });
  });

  it('does not wait for ever where no worker runs', async () => {
    const spec = specOf('alone', 'alone', 'nobody');
    const started = await orchestrator.startSchedule(spec, SETTINGS, { paused: false });
    expect(started).toMatchObject({ created: true, registered: false, view: { reachable: false, spec } });
    expect(started.view.reachable ? '' : started.view.reason).toMatch(
      /no worker of site nobody answers on nobody\.replica/,
    );
    const ref = { replicaSite: 'nobody', name: 'alone' };
    await expect(orchestrator.request(ref, 'pause')).rejects.toMatchObject({ code: 'WorkerUnreachable' });
    expect(await orchestrator.list('nobody')).toMatchObject([{ reachable: false, spec: { name: 'alone' } }]);
  });
});

describe('requests', () => {
  it('are accepted or refused with the reason, and may be repeated', async () => {
    await orchestrator.startSchedule(specOf('asked'), SETTINGS, { paused: false });
    for (const _time of [1, 2]) {
      const { view } = await orchestrator.request(refOf('asked'), 'pause');
      expect(view).toMatchObject({ reachable: true, status: { paused: true } });
    }
    await expect(orchestrator.request(refOf('asked'), 'runNow')).rejects.toMatchObject({
      code: 'RequestRefused',
      message: expect.stringContaining('resume it first'),
    });
    expect(await orchestrator.request(refOf('asked'), 'resume')).toMatchObject({
      view: { status: { paused: false } },
      reason: null,
    });
  });

  it('to a schedule that does not exist are refused', async () => {
    await expect(orchestrator.request(refOf('never'), 'pause')).rejects.toMatchObject({
      code: 'ScheduleUnknown',
    });
    await expect(orchestrator.status(refOf('never'))).rejects.toMatchObject({ code: 'ScheduleUnknown' });
    await expect(orchestrator.delete(refOf('never'), { purge: false })).rejects.toMatchObject({
      code: 'ScheduleUnknown',
    });
  });

  it('to delete end a schedule; a second one finds it gone, and the name is free again', async () => {
    await orchestrator.startSchedule(specOf('going'), SETTINGS, { paused: false });
    for (const _time of [1, 2]) {
      expect(await orchestrator.delete(refOf('going'), { purge: false })).toEqual({
        state: 'deleted',
        releaseWorkflowId: null,
      });
    }
    await expect(orchestrator.status(refOf('going'))).rejects.toThrow(/no schedule 'going' .*\(deleted, /);
    expect(
      await orchestrator.startSchedule(specOf('going', 'new'), SETTINGS, { paused: false }),
    ).toMatchObject({
      created: true,
    });
  });
});

describe('looking', () => {
  it('lists the live schedules of one site by name', async () => {
    await orchestrator.startSchedule(specOf('list-b'), SETTINGS, { paused: false });
    await orchestrator.startSchedule(specOf('list-a'), SETTINGS, { paused: true });
    const listed = await until(
      () => orchestrator.list(SITE),
      views => views.filter(({ ref }) => ref.name.startsWith('list-')).length === 2,
    );
    const names = listed.map(({ ref }) => ref.name);
    expect(names).toEqual([...names].sort());
    expect(listed.every(view => view.reachable && view.status.spec.replicaSite === SITE)).toBe(true);
  });

  it('shows the bytes of the running transfers', async () => {
    await orchestrator.startSchedule(specOf('progress'), SETTINGS, { paused: false });
    await orchestrator.request(refOf('progress'), 'runNow');
    const seen = await until(
      () => orchestrator.progress(refOf('progress')),
      ({ pending }) => pending.some(({ transfer }) => transfer !== null),
    );
    expect(seen).toMatchObject({ task: { outcome: null }, step: 'disk tasks' });
    expect(seen.pending).toMatchObject([
      {
        level: 'disk',
        disk: 'vda',
        activity: 'sendDisk',
        attempt: 1,
        transfer: { durableBytes: 1024, totalBytes: 4096 },
      },
    ]);
    site.release('progress');
    const view = await until(
      () => orchestrator.status(refOf('progress')),
      seen => seen.reachable && seen.status.runningTask === null,
    );
    expect(view).toMatchObject({ status: { lastTask: { outcome: 'published' } } });
    expect(await orchestrator.progress(refOf('progress'))).toEqual({ task: null, step: null, pending: [] });
  });

  it('shows why a step is tried again, until bytes flow', async () => {
    await orchestrator.startSchedule(specOf('busy'), SETTINGS, { paused: false });
    await orchestrator.request(refOf('busy'), 'runNow');
    const failed = await until(
      () => orchestrator.progress(refOf('busy')),
      seen => seen.pending.some(({ lastFailure }) => lastFailure !== null),
    );
    expect(failed.pending[0]?.lastFailure).toEqual({
      code: 'DiskFull',
      message: 'the disk at site b is full',
    });
    const mended = await until(
      () => orchestrator.progress(refOf('busy')),
      seen => seen.pending.some(({ transfer }) => transfer !== null),
    );
    expect(mended.pending).toMatchObject([{ attempt: 11, lastFailure: null }]);
  });

  it('shows a node without a worker', async () => {
    await orchestrator.startSchedule(specOf('waits'), SETTINGS, { paused: false });
    await orchestrator.request(refOf('waits'), 'runNow');
    const { pending } = await until(
      () => orchestrator.progress(refOf('waits')),
      seen => seen.pending.some(({ waits }) => waits !== null),
    );
    expect(pending.find(({ waits }) => waits !== null)).toMatchObject({
      activity: 'awaitReceived',
      waits: expect.stringMatching(/^no worker on node gone of site b since \d{4}-/),
    });
  });
});

describe('Temporal out of reach', () => {
  it('is named with its address, in bounded time', async () => {
    const lost = createOrchestrator({ temporal: { address: '127.0.0.1:1' } });
    await expect(lost.list(SITE)).rejects.toMatchObject({
      code: 'TemporalUnreachable',
      message: expect.stringContaining('127.0.0.1:1'),
    });
    await lost.close();
  });

  it('is told from a namespace that does not exist', async () => {
    const address = inject('temporalAddress');
    const wrong = createOrchestrator({ temporal: { address, namespace: 'no-such-namespace' } });
    await expect(wrong.list(SITE)).rejects.toMatchObject({ code: 'TemporalNamespaceMissing' });
    await expect(wrong.status(refOf('x'))).rejects.toMatchObject({ code: 'TemporalNamespaceMissing' });
    await wrong.close();
  });
});
