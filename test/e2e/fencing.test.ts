/** Workers that were thought dead come back when others have done their work: they write nothing and release nothing. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load-config.ts';
import { writeConfig } from '../../src/config/write-config.ts';
import { chooseFreePorts } from '../../src/dev/ports.ts';
import { awaiting, lineIsQuiet, moreBytes, pidOf, sleep } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type HostImages,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import { invariantsOf, openTransfers, rowsOf } from '../support/e2e-look.ts';
import { linesSince, stateOf } from '../support/e2e-state.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
const WORKER = fileURLToPath(new URL('../../src/worker.ts', import.meta.url));

let sites: TwoSites;
let host: HostImages;

beforeAll(async () => {
  sites = await startTwoSites();
  host = await createHostImages(sites, 'web1', { vda: '256M' });
}, 300_000);
afterAll(async () => {
  await sites?.close();
});

const startWorker = (name: string, configPath: string): Promise<void> =>
  sites.supervisor.start([
    { kind: 'process', name, command: process.execPath, args: [WORKER, '--config', configPath] },
  ]);

const signal = (services: readonly string[], name: 'SIGSTOP' | 'SIGCONT'): void => {
  for (const service of services) process.kill(pidOf(sites, service), name);
};

const sendersAtWork = async (): Promise<number> =>
  (await rowsOf(sites, 'a', 'select 1 from disk_senders where ended_at is null')).length;

/** Continues what was stopped, waits until it has really tried to go on, and looks at what that changed. */
async function comesBack(
  services: readonly string[],
  tried: () => boolean | Promise<boolean>,
): Promise<void> {
  const before = await stateOf(sites);
  expect(Object.keys(before.files).length).toBeGreaterThan(0);
  signal(services, 'SIGCONT');
  await awaiting('the late attempt', tried);
  await lineIsQuiet(sites);
  await sleep(2_000);
  expect(await stateOf(sites)).toEqual(before);
}

/** The request counts, not its answer: a workflow whose worker is stopped is only slowly taken over by another. */
async function pauseNow(): Promise<void> {
  await sites.cli('b', 'schedule', 'pause', 'nightly');
  await until(
    'the task paused',
    () => showSchedule(sites, 'nightly').catch(() => null),
    shown => shown?.state === 'paused' && shown.lastTask?.outcome === 'paused',
  );
}

test('a sender stopped beyond its heartbeat comes back when another worker has sent, and its point is published', async () => {
  const snapshot = await host.next(() => ['write -P 1 0 96M']);
  await createSchedule(sites, 'nightly', 'web1', '--bandwidth', '6MiB/s');
  await moreBytes(sites, 8 * MIB);
  const stopped = (await openTransfers(sites))[0];
  await startWorker('worker-a2', sites.configPath.a);
  signal(['worker-a'], 'SIGSTOP');
  const { lastTask } = await untilPublished(sites, 'nightly', snapshot);
  expect(lastTask?.taskUuid, 'the same task, its retry').toBe(stopped?.taskUuid);
  expect(await sendersAtWork(), 'the stopped one has not ended').toBe(1);

  const mark = sites.logOf('worker-a').length;
  await comesBack(['worker-a'], async () => (await sendersAtWork()) === 0);
  const lines = linesSince(sites, 'worker-a', mark);
  expect(
    lines.some(({ msg = '' }) => /sendDisk/.test(msg)),
    'its attempt went on and ended',
  ).toBe(true);
  expect(await invariantsOf(sites)).toEqual([]);
}, 400_000);

test('senders stopped while their task is paused are turned away, and its successor goes on from what is durable', async () => {
  const snapshot = await host.next(() => ['write -P 2 100M 64M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await moreBytes(sites, 8 * MIB);
  const both = ['worker-a', 'worker-a2'];
  signal(both, 'SIGSTOP');
  await pauseNow();
  await comesBack(both, async () => (await sendersAtWork()) === 0);

  const marked = sites.proxy.bytes.up;
  await sites.json('b', 'schedule', 'resume', 'nightly');
  await untilPublished(sites, 'nightly', snapshot);
  expect(sites.proxy.bytes.up - marked, 'the durable prefix was kept').toBeLessThan(64 * MIB);
  expect(await invariantsOf(sites)).toEqual([]);
}, 400_000);

test('a receiver stopped with bytes in its sockets writes none of them once another node has paused the schedule', async () => {
  const [port = 0] = await chooseFreePorts(1);
  const second = join(sites.dataDir, 'site-b2.yaml');
  const config = await loadConfig(sites.configPath.b);
  const { metrics: _, ...rest } = config;
  await writeConfig(second, {
    ...rest,
    node: 'b2',
    dataDir: join(sites.dataDir, 'site-b2'),
    replica: { listen: `127.0.0.1:${port}`, directory: join(sites.dataDir, 'replicas-b2') },
  });
  await startWorker('worker-b2', second);
  const snapshot = await host.next(() => ['write -P 3 170M 64M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await moreBytes(sites, 8 * MIB);
  const mark = sites.logOf('worker-b').length;
  signal(['worker-b'], 'SIGSTOP');
  await sleep(1_500);
  await pauseNow();
  const refused = () =>
    linesSince(sites, 'worker-b', mark).filter(
      ({ event, code }) => event === 'flush-failed' || (event === 'refused' && code === 'ReopenNeeded'),
    );
  await comesBack(['worker-b'], () => refused().length > 0);

  await sites.json('b', 'schedule', 'resume', 'nightly');
  await untilPublished(sites, 'nightly', snapshot);
  expect(await invariantsOf(sites)).toEqual([]);
}, 400_000);
