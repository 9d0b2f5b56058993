import { beforeEach, describe, expect, it } from 'vitest';
import type { ReplicaPorts } from '../../../src/activities/replica-activities.ts';
import { createReplicaActivities } from '../../../src/activities/replica-activities.ts';
import { createReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import type { ScheduleSettings, ScheduleSpec } from '../../../src/contract/schedule.ts';
import { useTestDatabase } from '../../support/database.ts';
import { newSchedule, SETTINGS } from './fixtures.ts';

const database = useTestDatabase();
let spec: ScheduleSpec;
let nowMs: number;
let activities: ReturnType<typeof createReplicaActivities>;
beforeEach(async () => {
  const catalog = createReplicaCatalog(database().db, { site: 'b', replicaRoot: '/replicas' });
  spec = await newSchedule(catalog);
  // Planning touches neither files nor connections.
  const unused = {} as Pick<ReplicaPorts, 'receiver' | 'files'>;
  activities = createReplicaActivities({
    site: 'b',
    node: 'b1',
    catalog,
    receiver: unused.receiver,
    files: unused.files,
    clock: () => nowMs,
  });
});

const at = (iso: string): number => Date.parse(iso);
const plan = (settings: ScheduleSettings, afterMs: number | null) =>
  activities.planNextRun({ scheduleUuid: spec.uuid, settings, afterMs });
const storedMs = async (): Promise<number> => {
  const row = await database().db('remote_backup_schedules').where({ uuid: spec.uuid }).first();
  return row.next_run_at.getTime();
};

const nightly: ScheduleSettings = {
  ...SETTINGS,
  everyMs: null,
  cron: '30 2 * * *',
  timeZone: 'Europe/Berlin',
};

describe('planning the next run', () => {
  it('a second time, when its answer was lost, tells of the run that is stored', async () => {
    nowMs = at('2026-03-28T12:00Z');
    const first = await plan(nightly, at('2026-03-27T01:30Z'));
    expect(first).toMatchObject({ nextRunAtMs: at('2026-03-28T01:30Z'), skippedRuns: 0 });
    nowMs = at('2026-04-05T12:00Z');
    const again = await plan(nightly, at('2026-03-27T01:30Z'));
    expect(again).toMatchObject({ nextRunAtMs: first.nextRunAtMs, skippedRuns: 0, skippedReason: null });
    expect(await storedMs()).toBe(first.nextRunAtMs);
  });

  it('catches up by one run and goes on from there', async () => {
    nowMs = at('2026-03-27T12:00Z');
    expect((await plan(nightly, null)).nextRunAtMs).toBe(at('2026-03-28T01:30Z'));
    nowMs = at('2026-04-01T12:00Z');
    const late = await plan(nightly, at('2026-03-28T01:30Z'));
    expect(late).toMatchObject({ nextRunAtMs: at('2026-04-01T00:30Z'), skippedRuns: 3 });
    const next = await plan(nightly, late.nextRunAtMs);
    expect(next).toMatchObject({ nextRunAtMs: at('2026-04-02T00:30Z'), skippedRuns: 0, nextRunReason: null });
    expect(await storedMs()).toBe(next.nextRunAtMs);
  });

  it('puts a run off until the blackout hours end, and tells why', async () => {
    const settings = { ...SETTINGS, everyMs: 3_600_000, notBetween: ['08:00-18:00'] };
    nowMs = at('2026-06-01T07:20Z');
    const next = await plan(settings, at('2026-06-01T07:00Z'));
    expect(next.nextRunAtMs).toBe(at('2026-06-01T18:00Z'));
    expect(next.skippedReason).toBe('10 in the blackout hours 08:00-18:00 (UTC)');
    expect(await storedMs()).toBe(next.nextRunAtMs);
  });

  it('goes on after the clock was set back', async () => {
    nowMs = at('2026-06-01T12:00Z');
    const before = await plan(SETTINGS, null);
    nowMs = at('2026-06-01T10:00Z');
    const first = await plan(SETTINGS, before.nextRunAtMs);
    expect(first.nextRunAtMs).toBe(nowMs + 60_000);
    nowMs = first.nextRunAtMs + 1_000;
    const second = await plan(SETTINGS, first.nextRunAtMs);
    expect(second.nextRunAtMs).toBe(first.nextRunAtMs + 60_000);
  });

  it('refuses what can never be due', async () => {
    nowMs = at('2026-06-01T12:00Z');
    const impossible = { ...nightly, cron: '0 0 31 2 *' };
    await expect(plan(impossible, null)).rejects.toMatchObject({ code: 'InvalidInput' });
  });
});
