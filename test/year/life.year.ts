/** A year of a few schedules, in the time of a server that skips what is not needed. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ScheduleSettings } from '../../src/contract/schedule.ts';
import { SETTINGS } from '../workflows/support/fake-sites.ts';
import { startTimeSkipping, type TimeSkippingServer } from './time-skipping.ts';
import { DAY_MS, HOUR_MS, YearSites } from './year-sites.ts';

const DAYS = 366;
/** The intervals; at most 8, so that one falls into the blackout each day. With 1 the year takes four times as long. */
const EVERY_HOURS = Number(process.env.OFFSITE_YEAR_EVERY_HOURS ?? 8);
const EVERY_MS = EVERY_HOURS * HOUR_MS;
const ZONE = 'Europe/Berlin';
/** The continuous schedule looks each five minutes, which are many tasks: so long it is watched. */
const WATCHED_DAYS = 1;
const SNAPSHOTS_A_DAY = 8;
/** A run hands over after 100 tasks; each is some twenty events, and requests and plans come on top. */
const MOST_EVENTS = 4_000;
const MOST_STATE_BYTES = 16 * 1024;

const STEADY: ScheduleSettings = { ...SETTINGS, everyMs: EVERY_MS };
const OFFICE: ScheduleSettings = { ...STEADY, timeZone: ZONE, notBetween: ['08:00-18:00'] };
const NIGHTLY: ScheduleSettings = { ...SETTINGS, everyMs: null, cron: '30 2 * * *', timeZone: ZONE };
const CONTINUOUS: ScheduleSettings = { ...SETTINGS, type: 'continuous', everyMs: null };

let server: TimeSkippingServer;
let steady: YearSites;
let office: YearSites;
let nightly: YearSites;
let mirror: YearSites;
let startedAtMs: number;
let pauses = 0;

beforeAll(async () => {
  server = await startTimeSkipping();
  steady = new YearSites(server, STEADY);
  office = new YearSites(server, OFFICE);
  nightly = new YearSites(server, NIGHTLY);
  mirror = new YearSites(server, CONTINUOUS);
  startedAtMs = await server.nowMs();
  for (const sites of [steady, office, nightly, mirror]) await sites.begin();
  const realMs = Date.now();
  await liveOneYear();
  console.error(`a year took ${Math.round((Date.now() - realMs) / 1_000)} s`);
}, 3_000_000);

afterAll(async () => {
  for (const sites of [steady, office, nightly, mirror]) await sites?.stop();
  await server?.close();
});

async function liveOneYear(): Promise<void> {
  for (let day = 1; day <= DAYS; day += 1) {
    if (day <= WATCHED_DAYS) await watchMirror();
    else await server.pass(DAY_MS);
    if (day === WATCHED_DAYS) await mirror.request('pause');
    for (const sites of [steady, office, nightly]) sites.snapshots += 1;
    await troubles(day);
  }
}

/** A day on which the source has something new each few hours, and says so. */
async function watchMirror(): Promise<void> {
  for (let time = 1; time <= SNAPSHOTS_A_DAY; time += 1) {
    mirror.snapshots += 1;
    const hint = {
      requestId: `hint-${mirror.snapshots}`,
      host: mirror.spec.host,
      sequence: mirror.snapshots,
    };
    await mirror.handle.signal('snapshotAvailable', hint);
    await server.pass(DAY_MS / SNAPSHOTS_A_DAY);
  }
}

/** What happens to the steady schedule in a year: pauses of a day, a silent source, edited bases, failed tasks. */
async function troubles(day: number): Promise<void> {
  if (day % 30 === 10) {
    await steady.request('pause');
    pauses += 1;
  }
  if (day % 30 === 11) await steady.request('resume');
  if (day % 100 === 70) steady.silentUntilMs = (await server.nowMs()) + 1.5 * EVERY_MS;
  if (day % 60 === 25) steady.plansToBreak = 1;
  if (day % 45 === 20) steady.tasksToFail = 3;
  if (day % 50 === 40) await steady.request('runNow');
}

const localOf = (atMs: number): { date: string; time: string; hour: number } => {
  const [date = '', time = ''] = new Intl.DateTimeFormat('sv-SE', {
    timeZone: ZONE,
    dateStyle: 'short',
    timeStyle: 'short',
  })
    .format(atMs)
    .split(' ');
  return { date, time, hour: Number(time.slice(0, 2)) };
};

/** The due times that had a run of their own, oldest first. */
const dueTimesOf = ({ plans }: YearSites): number[] =>
  [...plans.keys()].filter(afterMs => afterMs !== null).toSorted((left, right) => left - right);

const skippedIn = ({ plans }: YearSites): number =>
  [...plans.values()].reduce((sum, { skippedRuns }) => sum + skippedRuns, 0);

describe.each([
  ['steady', () => steady],
  ['office', () => office],
  ['nightly', () => nightly],
  ['mirror', () => mirror],
])('a year of the schedule %s', (name, get) => {
  it('bounds the history and the state of each run of its workflow', async () => {
    const life = await get().lifeOfRuns();
    const tasks = get().taskUuids.size;
    console.error(`${name}: ${tasks} tasks, ${life.count} runs of the workflow`, life);
    expect(life.mostEvents).toBeLessThan(MOST_EVENTS);
    expect(life.mostStateBytes).toBeLessThan(MOST_STATE_BYTES);
    expect(life.count).toBeGreaterThanOrEqual(Math.floor(tasks / 100));
  });

  it('applies nothing twice: each task is begun once, each snapshot published once and in order', async () => {
    const sites = get();
    expect(sites.callsOf('createEmptyTask')).toHaveLength(sites.taskUuids.size);
    const targets = sites
      .callsOf('recordSyncInfo')
      .map(({ input }) => [input.answer.target.sourceSequence as number, input.fence.plan as number]);
    const first = targets.filter(([, plan]) => plan === 1).map(([sequence]) => sequence ?? 0);
    expect(first).toEqual(first.toSorted((left, right) => left - right));
    expect(new Set(first).size).toBe(first.length);
    const { lastTask, requests } = await sites.status();
    expect(lastTask?.generation).toBe(sites.taskUuids.size);
    expect(requests.length).toBeLessThanOrEqual(50);
  });

  it('has a reason for each run that was skipped', async () => {
    const sites = get();
    for (const { skippedRuns, skippedReason } of sites.plans.values()) {
      expect(skippedReason === null, `${skippedRuns} skipped: ${skippedReason}`).toBe(skippedRuns === 0);
    }
    expect((await sites.status()).skippedRuns).toBe(skippedIn(sites));
  });
});

describe('a schedule of an interval', () => {
  it('has run or skipped each due time of the year, in step with its first', async () => {
    const due = dueTimesOf(steady);
    const [first = 0] = due;
    expect(first - startedAtMs).toBeLessThan(60_000);
    expect(due.filter(atMs => (atMs - first) % EVERY_MS !== 0)).toEqual([]);
    const { nextRunAtMs } = await steady.status();
    expect(((nextRunAtMs ?? 0) - first) / EVERY_MS).toBe(due.length + skippedIn(steady));
    expect(((nextRunAtMs ?? 0) - startedAtMs) / DAY_MS).toBeGreaterThan(DAYS - 2);
    // Pauses of a day and some silent hours, and nothing else, took their runs.
    const eachPause = 24 / EVERY_HOURS;
    expect(skippedIn(steady)).toBeGreaterThanOrEqual(pauses * (eachPause - 2));
    expect(skippedIn(steady)).toBeLessThanOrEqual(pauses * (eachPause + 1) + 4 * 4);
  });

  it('went on after everything that failed', async () => {
    expect(pauses).toBeGreaterThan(10);
    expect(steady.callsOf('recordPaused').filter(({ input }) => input.paused)).toHaveLength(pauses);
    expect(steady.callsOf('recordPaused').filter(({ input }) => !input.paused)).toHaveLength(pauses);
    expect(steady.plansToBreak + steady.tasksToFail).toBe(0);
    expect(steady.callsOf('raisePlan').length).toBeGreaterThan(3);
    // While its source was silent a task waited; the due times passed.
    expect(steady.attempts).toBeGreaterThan(steady.taskUuids.size + 3 * 10 * EVERY_HOURS);
    expect((await steady.status()).lastTask?.outcome).toMatch(/published|upToDate/);
  });
});

describe('a schedule with blackout hours', () => {
  it('never begins a task in them, all year round, and runs at their end and after it', () => {
    const inside = office.begunAtMs.map(localOf).filter(({ hour }) => hour >= 8 && hour < 18);
    expect(inside).toEqual([]);
    const perDay = Map.groupBy(office.begunAtMs, atMs => localOf(atMs).date);
    const counts = [...perDay.values()].slice(1, -1).map(runs => runs.length);
    expect(counts.length).toBeGreaterThan(DAYS - 3);
    // At the end of the blackout, and then each interval until it begins: 14 hours, one less or more in two nights.
    expect(Math.min(...counts)).toBeGreaterThanOrEqual(Math.floor(13 / EVERY_HOURS));
    expect(Math.max(...counts)).toBeLessThanOrEqual(Math.ceil(15 / EVERY_HOURS) + 1);
    const ends = [...perDay.values()]
      .slice(1, -1)
      .map(runs => runs.map(localOf).find(({ hour }) => hour >= 18));
    expect(new Set(ends.map(end => end?.time))).toEqual(new Set(['18:00']));
  });
});

describe('a schedule by cron in a zone that changes its clocks', () => {
  it('runs once a night, also on the night that lacks the hour and the one that has it twice', () => {
    const nights = dueTimesOf(nightly).map(localOf);
    const dates = nights.map(({ date }) => date);
    expect(dates.length).toBeGreaterThan(DAYS - 2);
    const [first = ''] = dates;
    const expected = dates.map((_, index) => {
      const day = new Date(Date.parse(`${first}T12:00:00Z`) + index * DAY_MS);
      return day.toISOString().slice(0, 10);
    });
    expect(dates).toEqual(expected);
    const odd = nights.filter(({ time }) => time !== '02:30');
    expect(odd).toHaveLength(1);
    expect(odd[0]?.date).toMatch(/-03-/);
  });
});

describe('a continuous schedule', () => {
  it('takes each snapshot in turn', async () => {
    const targets = mirror.callsOf('recordSyncInfo').map(({ input }) => input.answer.target.sourceSequence);
    expect(targets).toEqual(Array.from({ length: mirror.snapshots - 1 }, (_, index) => index + 2));
    expect((await mirror.status()).state).toBe('paused');
  });
});
