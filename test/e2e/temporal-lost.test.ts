import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createHostImages,
  createSchedule,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { checkInvariants } from '../support/invariants/check-invariants.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const kill = (name: string, signal: NodeJS.Signals) =>
  process.kill(sites.supervisor.status()[name] ?? 0, signal);

test('live, paused and deleting schedules come back from the rows of B as they were', async () => {
  const names = ['live', 'paused', 'deleting'] as const;
  const hosts = new Map<string, Awaited<ReturnType<typeof createHostImages>>>();
  for (const name of names) {
    const images = await createHostImages(sites, `host-${name}`, { vda: '8M' });
    hosts.set(name, images);
    const snapshot = await images.next(() => ['write -P 1 0 1M']);
    await createSchedule(sites, name, `host-${name}`);
    await untilPublished(sites, name, snapshot);
  }
  await sites.json('b', 'schedule', 'pause', 'paused');
  kill('worker-a', 'SIGSTOP');
  await sites.json('b', 'schedule', 'delete', 'deleting');
  expect((await showSchedule(sites, 'deleting')).state).toBe('deleting');
  const before = new Map<string, string>();
  for (const name of names) before.set(name, (await showSchedule(sites, name)).uuid);

  for (const name of names) await sites.client.workflow.getHandle(`schedule/b/${name}`).terminate('lost');
  kill('worker-b', 'SIGKILL');

  const states = { live: 'waiting', paused: 'paused', deleting: 'deleting' } as const;
  for (const name of names) {
    const shown = await until(
      `${name} is back`,
      async () => (await sites.cli('b', 'schedule', 'show', name, '--json')).stdout,
      stdout => stdout.includes(`"state": "${states[name]}"`),
    );
    expect(JSON.parse(shown).uuid).toBe(before.get(name));
  }

  kill('worker-a', 'SIGCONT');
  const gone = () => sites.cli('b', 'schedule', 'show', 'deleting');
  await until('the deleted one is gone', gone, ({ exitCode }) => exitCode === 1);
  const snapshot = (await hosts.get('live')?.next(() => ['write -P 2 0 1M'])) ?? '';
  await sites.json('b', 'schedule', 'run', 'live');
  const { lastTask } = await untilPublished(sites, 'live', snapshot);
  expect(lastTask?.disks.map(({ method }) => method)).toEqual(['incremental']);
  const violations = await checkInvariants({
    sourceDb: sites.databaseUrl.a,
    replicaDb: sites.databaseUrl.b,
    replicaRoots: [sites.replicaRoot],
    temporal: { client: sites.client, replicaSite: 'b' },
    quiescent: true,
  });
  expect(violations).toEqual([]);
}, 300_000);
