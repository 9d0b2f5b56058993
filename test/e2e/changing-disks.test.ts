/** Disks that appear, vanish, grow, shrink, change name or ground between snapshots; chains at their limits. */
import { copyFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { TaskSummary } from '../../src/contract/schedule.ts';
import type { ListedPoint } from '../support/e2e-host.ts';
import { invariantsOf, rowsOf } from '../support/e2e-look.ts';
import { HOURLY, type Operator, openOperator } from '../support/operator.ts';
import { qemuImg, qemuIo } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;

let sites: TwoSites;
let operator: Operator;

beforeAll(async () => {
  sites = await startTwoSites();
  operator = await openOperator(sites);
}, 300_000);

afterAll(async () => {
  await operator?.close();
  await sites?.close();
});

let files = 0;

/** Makes a layer: of its own, or an overlay. A size beside a base makes it grow or shrink there. */
async function layer(
  options: { base?: string; size?: string },
  ...commands: readonly string[]
): Promise<string> {
  files += 1;
  const path = join(sites.imageDir, `layer-${files}.qcow2`);
  const below = options.base === undefined ? [] : ['-b', options.base, '-F', 'qcow2'];
  const size = options.size === undefined ? [] : [options.size];
  await qemuImg('create', '-q', '-f', 'qcow2', ...below, path, ...size);
  await qemuIo(path, commands);
  return path;
}

type Disks = Record<string, string>;

/** Imports these disks, has the schedule run and publish them. @returns the task, and what was said of each disk */
async function published(
  host: string,
  disks: Disks,
): Promise<{ snapshot: string; task: TaskSummary; said: Record<string, string> }> {
  const snapshot = await operator.importDisks(host, disks);
  return { snapshot, ...(await taken(host, snapshot)) };
}

async function taken(host: string, snapshot: string) {
  await operator.ask(host, 'runNow');
  const task = await operator.untilPublished(host, snapshot);
  await operator.untilStatus(host, 'rest', ({ state }) => state === 'waiting');
  const said = Object.fromEntries(
    task.disks.map(({ disk, method, reason }) => [disk, `${method}: ${reason}`]),
  );
  return { task, said };
}

/** @param changed a point whose files at A are not any more what was sent */
async function expectSound(changed?: string): Promise<void> {
  const found = await invariantsOf(sites);
  const isKnown = (text: string) => changed !== undefined && text.includes(`of point ${changed},`);
  expect(found.filter(({ code, text }) => !(code === 'contentDiffers' && isKnown(text)))).toEqual([]);
}

async function replicaOf(host: string, snapshot: string): Promise<Disks> {
  const points = await sites.json<ListedPoint[]>('b', 'replica', 'list', host);
  const disks = points.find(({ point }) => point === snapshot)?.disks ?? [];
  return Object.fromEntries(disks.map(({ disk, path }) => [disk, path]));
}

test('disks appear, vanish, grow, shrink, change names and are exchanged', async () => {
  const host = 'web1';
  let vda = await layer({ size: '16M' }, 'write -P 1 0 2M', 'write -P 2 10M 64k');
  let vdb = await layer({ size: '8M' }, 'write -P 3 0 1M');
  const first = await operator.importDisks(host, { vda, vdb });
  await operator.create(host, host);
  const { disks } = await operator.untilPublished(host, first);
  expect(disks.map(({ method, reason }) => `${method}: ${reason}`)).toEqual([
    'full: first copy',
    'full: first copy',
  ]);

  // One appears, the others go on.
  vda = await layer({ base: vda }, 'write -P 4 1M 64k');
  vdb = await layer({ base: vdb });
  let vdc = await layer({ size: '4M' }, 'write -P 5 0 64k');
  const appeared = await published(host, { vda, vdb, vdc });
  expect(appeared.said).toEqual({
    vda: 'incremental: on the same chain',
    vdb: 'incremental: on the same chain',
    vdc: 'full: new disk',
  });
  expect(appeared.task.warnings).toEqual(['disk vdc is sent in full: new disk']);

  // One vanishes: its older replicas stay.
  vda = await layer({ base: vda }, 'write -P 6 2M 64k');
  vdc = await layer({ base: vdc }, 'write -P 7 1M 64k');
  const vanished = await published(host, { vda, vdc });
  expect(vanished.said).toEqual({
    vda: 'incremental: on the same chain',
    vdc: 'incremental: on the same chain',
  });
  expect(vanished.task.warnings).toEqual([]);
  expect(Object.keys(await replicaOf(host, vanished.snapshot))).toEqual(['vda', 'vdc']);
  expect(Object.keys(await replicaOf(host, first))).toEqual(['vda', 'vdb']);
  await expectSound();

  vda = await layer({ base: vda, size: '24M' }, 'write -P 8 18M 2M');
  const grown = await published(host, { vda, vdc });
  expect(grown.said.vda).toBe(`incremental: on the same chain; grew from ${16 * MIB} to ${24 * MIB} bytes`);
  expect(grown.said.vdc).toMatch(/^incremental: /);

  // What was cut off is gone for good: after growing again there are zeros, not what stood there.
  vda = await layer({ base: vda, size: '8M' });
  const shrunk = await published(host, { vda, vdc });
  expect(shrunk.said.vda).toBe(`incremental: on the same chain; shrank from ${24 * MIB} to ${8 * MIB} bytes`);
  vda = await layer({ base: vda, size: '20M' }, 'write -P 9 19M 64k');
  const again = await published(host, { vda, vdc });
  const replica = (await replicaOf(host, again.snapshot)).vda ?? '';
  await qemuIo(replica, ['read -P 4 1M 64k', 'read -P 0 8M 11M', 'read -P 9 19M 64k']);
  await expectSound();

  // The same, with the short one passed over.
  const short = await layer({ base: vda, size: '1M' });
  const skipped = await operator.importDisks(host, { vda: short, vdc });
  vda = await layer({ base: short, size: '20M' }, 'write -P 10 5M 64k');
  const over = await published(host, { vda, vdc });
  expect(over.said.vda).toBe('incremental: on the same chain');
  await qemuIo((await replicaOf(host, over.snapshot)).vda ?? '', [
    'read -P 1 0 1M',
    'read -P 0 1M 4M',
    'read -P 10 5M 64k',
    'read -P 0 5184k 14M',
  ]);
  const points = await sites.json<ListedPoint[]>('b', 'replica', 'list', host);
  expect(points.some(({ point }) => point === skipped)).toBe(false);

  // Another name is another disk, although its chain goes on.
  const data = await layer({ base: vdc }, 'write -P 11 2M 64k');
  const renamed = await published(host, { vda, data });
  expect(renamed.said).toMatchObject({ data: 'full: new disk' });
  expect(renamed.said.vda).toMatch(/^incremental: /);

  // All exchanged: one under its old name, one under another.
  const other = await layer({ size: '12M' }, 'write -P 12 0 1M');
  const sda = await layer({ size: '4M' }, 'write -P 13 0 64k');
  const exchanged = await published(host, { vda: other, sda });
  expect(exchanged.said.sda).toBe('full: new disk');
  const unrelated = `not on the chain of ${renamed.snapshot}; the replica site has a replica of it`;
  expect(exchanged.said.vda).toContain(`compare: ${unrelated}`);
  expect([...exchanged.task.warnings].sort()).toEqual([
    'disk sda is sent in full: new disk',
    `unexpected compare of disk vda: ${unrelated}`,
  ]);

  // And it goes on from there.
  const next = await layer({ base: other }, 'write -P 14 3M 64k');
  const after = await published(host, { vda: next, sda });
  expect(after.said.vda).toBe('incremental: on the same chain');
  expect(after.task.warnings).toEqual([]);
  await expectSound();
}, 300_000);

test('a layer that was committed into the one beneath it, or replaced, is no base any more', async () => {
  const host = 'db1';
  const base = await layer({ size: '8M' }, 'write -P 1 0 2M');
  const first = await operator.importDisks(host, { vda: base });
  await operator.create(host, host);
  await operator.untilPublished(host, first);
  const middle = await layer({ base }, 'write -P 2 1M 2M');
  const second = await published(host, { vda: middle });
  expect(second.said.vda).toBe('incremental: on the same chain');

  // As a block commit does it: the middle layer's data go down, and the top stands on the bottom.
  const top = await layer({ base: middle }, 'write -P 3 4M 64k');
  await qemuImg('commit', '-q', '-d', '-f', 'qcow2', middle);
  await qemuImg('rebase', '-u', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top);
  const committed = await published(host, { vda: top });
  expectAnew(committed, /in doubt|not on the chain/);
  // What A's bottom held is no more, but the new chain stands on it; the replicas of both are whole, and stay.
  await untilReleased(host);
  await operator.forget(second.snapshot);
  await expectSound(first);
  await qemuIo((await replicaOf(host, first)).vda ?? '', ['read -P 1 0 2M', 'read -P 0 2M 6M']);
  const replica = (await replicaOf(host, second.snapshot)).vda ?? '';
  await qemuIo(replica, ['read -P 1 0 1M', 'read -P 2 1M 2M', 'read -P 0 3M 5M']);

  // Another file under the same name: nothing is registered that stands on it.
  const upon = await layer({ base: top }, 'write -P 5 7M 64k');
  await rename(top, `${top}.old`);
  await copyFile(`${top}.old`, top);
  await expect(operator.importDisks(host, { vda: upon })).rejects.toMatchObject({
    code: 'ImageReplaced',
    hint: expect.stringContaining('another path'),
  });
  // The old one is back, but somebody has written to it: its bytes are not those that were sent.
  await rename(`${top}.old`, top);
  await qemuIo(top, ['write -P 4 6M 64k']);
  const replaced = await published(host, { vda: upon });
  expectAnew(replaced, /the source is in doubt/);
  const points = await sites.json<ListedPoint[]>('b', 'replica', 'list', host);
  expect(points.map(({ point }) => point)).toEqual([
    first,
    second.snapshot,
    committed.snapshot,
    replaced.snapshot,
  ]);
  await qemuIo((await replicaOf(host, replaced.snapshot)).vda ?? '', [
    'read -P 4 6M 64k',
    'read -P 5 7M 64k',
  ]);
}, 300_000);

/** The lock of the point before goes with the next run, which finds nothing here. */
async function untilReleased(host: string): Promise<void> {
  await operator.ask(host, 'runNow');
  await operator.untilStatus(host, 'nothing newer', ({ lastTask, state }) => {
    return lastTask?.outcome === 'upToDate' && state === 'waiting';
  });
}

/** No base can be proven, so what B has is compared with what A has. */
function expectAnew({ task, said }: Awaited<ReturnType<typeof published>>, reason: RegExp): void {
  expect(task.disks.map(({ method }) => method)).toEqual(['compare']);
  expect(said.vda).toMatch(reason);
  expect(task.warnings.join()).toContain('unexpected compare of disk vda: ');
}

test('a chain of 64 layers is sent, one of 65 is refused; at B the 32nd layer stands alone', async () => {
  const host = 'deep1';
  let vda = await layer({ size: '4M' }, 'write -P 1 0 64k');
  const first = await operator.importDisks(host, { vda });
  await operator.create(host, host, { ...HOURLY, type: 'continuous', everyMs: null });
  await operator.untilPublished(host, first);
  let newest = first;
  for (let count = 2; count <= 34; count += 1) {
    vda = await layer({ base: vda }, `write -P ${count} ${(count % 32) * 128}k 64k`);
    newest = await operator.importDisks(host, { vda });
  }
  const { disks } = await operator.untilPublished(host, newest);
  expect(disks).toMatchObject([{ method: 'incremental', reason: 'on the same chain' }]);
  const storages = await rowsOf<{ base_storage_id: string | null }>(
    sites,
    'b',
    `select st.base_storage_id from host_snapshots hs join hosts h on h.id = hs.host_id
     join disk_snapshots ds on ds.host_snapshot_id = hs.id join snapshot_storages st on st.id = ds.storage_id
     where h.ident = '${host}' order by hs.sequence`,
  );
  const standAlone = storages.flatMap(({ base_storage_id: base }, index) =>
    base === null ? [index + 1] : [],
  );
  expect(storages).toHaveLength(34);
  expect(standAlone).toEqual([1, 32]);

  for (let count = 35; count <= 64; count += 1) vda = await layer({ base: vda });
  await qemuIo(vda, ['write -P 64 0 64k']);
  const deepest = await operator.importDisks(host, { vda });
  await operator.untilPublished(host, deepest);
  const tooDeep = await layer({ base: vda });
  await expect(operator.importDisks(host, { vda: tooDeep })).rejects.toMatchObject({
    code: 'ImageChainTooDeep',
    hint: expect.any(String),
  });
  expect(await invariantsOf(sites, true, [host])).toEqual([]);
}, 300_000);
