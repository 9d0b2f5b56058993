/** A an hour ahead, B an hour behind, and a step of each while a copy comes. PostgreSQL and Temporal are right. */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { moreBytes } from '../support/e2e-faults.ts';
import {
  createHostImages,
  type ListedPoint,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf } from '../support/e2e-look.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const HOUR_MS = 3_600_000;
const MIB = 1024 * 1024;
/** Far below the hour by which the clocks are off, far above what a busy machine takes. */
const SLACK_MS = 20 * 60_000;
const PRELOAD = fileURLToPath(new URL('../support/skewed-clock.mjs', import.meta.url));

interface Show {
  readonly ageMs: number | null;
  readonly behindMs: number | null;
  readonly nextRunAt: string | null;
  readonly skippedRuns: number;
}

let sites: TwoSites;
let clocksPath: string;

/** Milliseconds by which each site's clock is off. */
function setClocks(clocks: { a: number; b: number }): void {
  writeFileSync(`${clocksPath}.new`, JSON.stringify(clocks));
  renameSync(`${clocksPath}.new`, clocksPath);
}

beforeAll(async () => {
  sites = await startTwoSites({
    prepare: async ({ dataDir, databaseUrl, temporalAddress }) => {
      clocksPath = join(dataDir, 'clocks.json');
      setClocks({ a: HOUR_MS, b: -HOUR_MS });
      const environment = { NODE_OPTIONS: `--import=${PRELOAD}`, OFFSITE_TEST_CLOCKS: clocksPath };
      return { databaseUrl, temporal: { address: temporalAddress }, environment };
    },
  });
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const show = () => sites.json<Show>('b', 'schedule', 'show', 'nightly');
const isAbout = (foundMs: number | null, wantedMs: number): void => {
  expect(foundMs).not.toBeNull();
  expect(Math.abs((foundMs ?? 0) - wantedMs)).toBeLessThan(SLACK_MS);
};

test('order, age, behind and the next run are right', async () => {
  const host = await createHostImages(sites, 'web1', { vda: '64M' });
  const first = await host.next(() => ['write -P 1 0 8M']);
  // As A's own clock has it: taken thirty minutes ago.
  await setTakenAt(first, HOUR_MS - HOUR_MS / 2);
  await sites.json(
    'b',
    'schedule',
    'create',
    'nightly',
    '--source',
    'a',
    '--host',
    'web1',
    '--every',
    '30m',
    '--rpo',
    '2h',
  );
  await untilPublished(sites, 'nightly', first);
  const after = await show();
  isAbout(after.ageMs, HOUR_MS / 2);
  expect(after.behindMs).toBe(0);
  // Planned by Temporal's clock: half an hour ahead, and no run is caught up that nobody missed.
  const planned = await until('the next run', show, ({ nextRunAt }) => nextRunAt !== null);
  isAbout(Date.parse(planned.nextRunAt ?? '') - Date.now(), HOUR_MS / 2);
  expect(planned.skippedRuns).toBe(0);
  expect((await showSchedule(sites, 'nightly')).lastTask?.hostSnapshot).toBe(first);

  // Both clocks are put right in the middle of a copy.
  await sites.json('b', 'schedule', 'update', 'nightly', '--bandwidth', '4MiB/s');
  const second = await host.next(() => ['write -P 2 8M 16M']);
  await setTakenAt(second, HOUR_MS - HOUR_MS / 2);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await moreBytes(sites, 4 * MIB);
  setClocks({ a: 0, b: 0 });
  await untilPublished(sites, 'nightly', second);
  const stepped = await until('the next run', show, ({ nextRunAt }) => nextRunAt !== null);
  isAbout(stepped.ageMs, HOUR_MS / 2);
  expect(stepped.behindMs).toBe(0);

  // A's clock has gone back by an hour: a younger snapshot has an older time, and comes all the same.
  const third = await host.next(() => ['write -P 3 0 1M']);
  await setTakenAt(third, -HOUR_MS / 2);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(sites, 'nightly', third);
  const points = await sites.json<ListedPoint[]>('b', 'replica', 'list', 'web1');
  expect(points.map(({ point }) => point)).toEqual([first, second, third]);
  isAbout((await show()).ageMs, HOUR_MS / 2);
  const status = await sites.cli('b', 'status', '--quiet');
  expect(status.exitCode).toBe(0);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);

/** The time that A's clock showed when the snapshot was taken. @param offMs from the right time now */
async function setTakenAt(snapshot: string, offMs: number): Promise<void> {
  const client = new pg.Client({ connectionString: sites.databaseUrl.a });
  await client.connect();
  await client.query(
    `update host_snapshots set taken_at = now() + $1 * interval '1 millisecond' where uuid = $2`,
    [offMs, snapshot],
  );
  await client.end();
}
