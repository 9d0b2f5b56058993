/** A virtual machine under load is recorded at A, followed to B, and restored there as it was at random instants. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { untilReached } from '../support/cdp-look.ts';
import { until } from '../support/e2e-host.ts';
import { invariantsOf, rowsOf } from '../support/e2e-look.ts';
import { HOURLY, type Operator, openOperator } from '../support/operator.ts';
import { fileSha256, qemuCheck, qemuImg } from '../support/qemu.ts';
import { type Guest, type RecorderProcess, startGuest, startRecorder } from '../support/recorded-guest.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const INSTANTS = 20;
const WRITES = 250;
const BLOCK_BYTES = 4096;
/** Beyond what the disks hold from the start. */
const FIRST_BLOCK = 4096;

let sites: TwoSites;
let operator: Operator;
let dir: string;
let guest: Guest;
let recorder: RecorderProcess;

beforeAll(async () => {
  sites = await startTwoSites();
  operator = await openOperator(sites);
  dir = await mkdtemp('/tmp/rec-');
  guest = await startGuest(dir, sites.imageDir);
}, 300_000);

afterAll(async () => {
  await recorder?.kill('SIGTERM');
  await guest?.close();
  await operator?.close();
  await sites?.close();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

/** Of each write when it was begun, and when both disks had acknowledged it as durable; milliseconds. */
const begun: number[] = [];
const durable: number[] = [];

/** Appends n to the first disk, and when that is durable n to the second one. */
async function write(n: number): Promise<void> {
  const at = (FIRST_BLOCK + n) * BLOCK_BYTES;
  begun[n] = Date.now();
  for (const disk of ['vda', 'vdb'] as const) {
    await guest.io(disk, `write -P ${1 + (n % 250)} ${at} ${BLOCK_BYTES}`, 'flush');
  }
  durable[n] = Date.now();
}

/** So many of the writes a restored disk has: all of them up to there, and none after. */
async function writesOn(path: string): Promise<number> {
  const raw = `${path}.raw`;
  await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
  const content = await readFile(raw);
  await rm(raw);
  const first = (n: number): number => content[(FIRST_BLOCK + n) * BLOCK_BYTES] ?? 0;
  let count = 0;
  while (first(count) === 1 + (count % 250)) count += 1;
  for (let n = count; n < begun.length; n += 1) expect(first(n), `write ${n} behind ${count}`).toBe(0);
  return count;
}

interface Restored {
  readonly at: string;
  readonly disks: readonly { readonly disk: string; readonly path: string }[];
}

async function restoredAt(atMs: number): Promise<{ stateAtMs: number; writes: number[] }> {
  const to = join(dir, `at-${Math.round(atMs)}`);
  const time = new Date(atMs).toISOString();
  const state = await sites.json<Restored>('b', 'replica', 'recover', 'web1', '--at', time, '--to', to);
  const writes: number[] = [];
  for (const { path } of state.disks) {
    expect(await qemuCheck(path)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
    writes.push(await writesOn(path));
  }
  await rm(to, { recursive: true });
  return { stateAtMs: Date.parse(state.at), writes };
}

test('a machine under load, restored at random instants', async () => {
  recorder = startRecorder({ configPath: sites.configPath.a, host: 'web1', guest });
  await recorder.recording();
  await operator.create('web1', 'web1', { ...HOURLY, type: 'continuous', everyMs: null });
  for (let n = 0; n < WRITES; n += 1) await write(n);
  const last = await until(
    'a checkpoint behind the last write',
    () =>
      rowsOf<{ uuid: string; newest: string; at: Date }>(
        sites,
        'a',
        `select hs.uuid, e.newest_checkpoint as newest, e.newest_checkpoint_at as at
       from cdp_epochs e join host_snapshots hs on hs.id = e.host_snapshot_id where e.newest_checkpoint > 0`,
      ),
    rows => (rows[0]?.at.getTime() ?? 0) >= (begun.at(-1) ?? 0),
  );
  await untilReached(sites, last[0]?.uuid ?? '', Number(last[0]?.newest));

  const from = await rowsOf<{ at: Date }>(
    sites,
    'b',
    'select taken_at as at from host_snapshots order by id limit 1',
  );
  const startMs = Math.max(from[0]?.at.getTime() ?? 0, begun[0] ?? 0);
  for (let count = 0; count < INSTANTS; count += 1) {
    const atMs = startMs + Math.random() * ((durable.at(-1) ?? 0) - startMs);
    const { stateAtMs, writes } = await restoredAt(atMs);
    const [vda = 0, vdb = 0] = writes;
    // Never the second disk ahead, nor the first one more than one.
    expect(vda - vdb).toBeGreaterThanOrEqual(0);
    expect(vda - vdb).toBeLessThanOrEqual(1);
    expect(stateAtMs).toBeLessThanOrEqual(atMs);
    // All that the guest was told is durable before the checkpoint, and nothing of what it began after it.
    expect(vdb).toBeGreaterThanOrEqual(durable.filter(ms => ms < stateAtMs).length);
    expect(vda).toBeLessThanOrEqual(begun.filter(ms => ms <= stateAtMs + 1).length);
  }

  // The newest state is what the guest has, byte by byte, and the guest never saw an error.
  const to = join(dir, 'newest');
  const { disks } = await sites.json<Restored>('b', 'replica', 'recover', 'web1', '--to', to);
  for (const { disk, path } of disks) {
    await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, `${path}.raw`);
    expect(await fileSha256(`${path}.raw`)).toBe(await guest.sha256(disk as 'vda' | 'vdb'));
  }
  await recorder.kill('SIGTERM');
  expect(await guest.status()).toBe('running');
  await operator.untilStatus('web1', 'at rest', ({ state }) => state === 'waiting');
  await operator.ask('web1', 'pause');
  await operator.untilStatus('web1', 'paused', ({ state }) => state === 'paused');
  expect(await invariantsOf(sites)).toEqual([]);
}, 600_000);
