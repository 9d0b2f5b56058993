import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadIdentity } from '../../src/transfer/identity.ts';
import { RawClient } from '../integration/transfer/raw-client.ts';
import { awaiting } from '../support/e2e-faults.ts';
import {
  createHostImages,
  createSchedule,
  type HostImages,
  showSchedule,
  until,
  untilPublished,
} from '../support/e2e-host.ts';
import {
  filesUnder,
  invariantsOf,
  type OpenTransfer,
  openTransfers,
  pendingFailures,
} from '../support/e2e-look.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const SIZES = { vda: '64M' };
const WRONG_FINGERPRINT = '0'.repeat(64);

let sites: TwoSites;
/** B's certificate, as an operator copies it into A's configuration. */
let fingerprint: string;
let host: HostImages;
let snapshot: string;

beforeAll(async () => {
  sites = await startTwoSites({ rule: { hosts: ['other'] } });
  fingerprint = await fingerprintOfB();
  host = await createHostImages(sites, 'web1', SIZES);
  snapshot = await host.next(() => ['write -P 1 0 4M']);
  await createSchedule(sites, 'nightly', 'web1');
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

const fingerprintOfB = async (): Promise<string> =>
  (await loadIdentity(join(sites.dataDir, 'site-b', 'identity'))).fingerprint;

/** Waits until an activity retries with this code; nothing may pass between the sites. */
async function untilRefused(code: string, activity: string, reason: string): Promise<void> {
  const { connections, bytes } = sites.proxy;
  const before = { connections, bytes: { ...bytes } };
  const { retry, lastTask } = await until(
    `a retry because of ${code}`,
    () => showSchedule(sites, 'nightly'),
    shown => shown.retry?.code === code,
  );
  expect(retry).toMatchObject({ activity, reason: expect.stringContaining(reason) });
  expect(retry?.attempt).toBeGreaterThan(1);
  const [failure] = await pendingFailures(sites, lastTask?.taskUuid ?? '');
  expect(failure).toMatchObject({ activity, code, message: expect.stringContaining(reason) });
  expect(sites.proxy).toMatchObject(before);
}

async function openTransfer(): Promise<OpenTransfer> {
  const [open] = await openTransfers(sites);
  if (open === undefined) throw new Error('no receiver is open');
  return open;
}

/** What B's worker has logged since `from`, one object a line. */
const logged = (from: number): { event?: string; code?: string }[] =>
  sites
    .logOf('worker-b')
    .slice(from)
    .split('\n')
    .filter(line => line.startsWith('{') && line.endsWith('}'))
    .map(line => JSON.parse(line));

const untilLogged = (from: number, expected: { event: string; code?: string }): Promise<void> =>
  awaiting(`${JSON.stringify(expected)} in the log`, () =>
    logged(from).some(
      line => line.event === expected.event && (expected.code === undefined || line.code === expected.code),
    ),
  );

test('A gives nothing away that its configuration does not allow, says why, and goes on once it does', async () => {
  expect(sites.proxy.bytes).toEqual({ up: 0, down: 0 });
  await untilRefused('HostNotAllowed', 'querySyncInfo', 'site b may not have host web1');
  await sites.allow({ endpoints: ['127.0.0.1:1'] });
  await untilRefused(
    'EndpointNotAllowed',
    'sendDisk',
    `127.0.0.1:${sites.proxy.port} is not an allowed endpoint`,
  );
  await sites.allow({ fingerprints: [WRONG_FINGERPRINT] });
  await untilRefused('FingerprintMismatch', 'sendDisk', fingerprint);
  expect(sites.proxy.bytes).toEqual({ up: 0, down: 0 });
}, 300_000);

test('a stranger at the data port is refused and logged, and nothing is written', async () => {
  // A receiver is open for a disk, and A's own configuration still holds its sender back.
  const { diskTaskUuid, epoch } = await openTransfer();
  const filesBefore = await filesUnder(sites.replicaRoot);
  const port = sites.receiverPort;
  const from = sites.logOf('worker-b').length;

  const garbage = connect({ host: '127.0.0.1', port });
  garbage.on('error', () => {});
  garbage.resume();
  const closed = new Promise(resolve => garbage.once('close', resolve));
  garbage.write(Buffer.alloc(4096, 'GET / HTTP/1.1\r\n'));
  await closed;
  await untilLogged(from, { event: 'handshake-failed' });

  const nobody = await RawClient.connect(port, null);
  nobody.hello(diskTaskUuid, { epoch });
  expect(await nobody.isRefused()).toBe('NotAdmitted');
  await untilLogged(from, { event: 'stranger' });

  const identity = await loadIdentity(join(sites.dataDir, 'stranger'));
  const stranger = await RawClient.connect(port, identity);
  stranger.hello(diskTaskUuid, { epoch, attempt: 1_000_000_000 });
  expect(await stranger.isRefused()).toBe('NotAdmitted');
  await untilLogged(from, { event: 'refused', code: 'NotAdmitted' });

  const own = await loadIdentity(join(sites.dataDir, 'site-a', 'identity'));
  const unknown = await RawClient.connect(port, own);
  unknown.hello('00000000-0000-4000-8000-000000000000', { epoch });
  expect(await unknown.isRefused()).toBe('ReopenNeeded');
  await untilLogged(from, { event: 'refused', code: 'ReopenNeeded' });

  expect(await filesUnder(sites.replicaRoot)).toEqual(filesBefore);
}, 300_000);

test('the right fingerprint lets the run that was held back complete', async () => {
  await sites.allow({ fingerprints: [WRONG_FINGERPRINT, fingerprint] });
  await untilPublished(sites, 'nightly', snapshot);
  expect(sites.proxy.connections).toBe(1);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);

test('a receiver that shows another certificate than at its first use gets nothing until A is told of it', async () => {
  await sites.allow({});
  const first = await host.next(() => ['write -P 2 1M 1M']);
  await sites.json('b', 'schedule', 'run', 'nightly');
  await untilPublished(sites, 'nightly', first);

  await rm(join(sites.dataDir, 'site-b', 'identity'), { recursive: true });
  await sites.supervisor.restart('worker-b');
  await awaiting('another identity of B', async () => (await fingerprintOfB()) !== fingerprint);
  const renewed = await fingerprintOfB();
  const second = await host.next(() => ['write -P 3 2M 1M']);
  await until(
    'B answering again',
    () => showSchedule(sites, 'nightly'),
    ({ state }) => state !== 'unreachable',
  );
  await sites.json('b', 'schedule', 'run', 'nightly');
  await untilRefused('FingerprintMismatch', 'sendDisk', renewed);

  await sites.allow({ fingerprints: [renewed] });
  await untilPublished(sites, 'nightly', second);
  expect(await invariantsOf(sites)).toEqual([]);
}, 300_000);
