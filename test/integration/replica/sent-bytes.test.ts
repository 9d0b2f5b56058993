import { afterEach, beforeEach, expect, it } from 'vitest';
import { mapDigest } from '../../../src/domain/content-digest.ts';
import { createXxh128, toHex } from '../../../src/lib/digest.ts';
import { createSessionDirectory } from '../../../src/sites/session-directory.ts';
import { useTestDatabase } from '../../support/database.ts';
import { createReplicaBench, type DiskRun, layerOver, type ReplicaBench } from './replica-bench.ts';

const MIB = 1024 * 1024;
const database = useTestDatabase();
let bench: ReplicaBench;
beforeEach(async () => {
  bench = await createReplicaBench(database().db);
});
afterEach(() => bench.close());

const bytesOf = ({ diskTaskUuid }: DiskRun) =>
  database().db('remote_backup_disk_tasks').where({ uuid: diskTaskUuid }).first('bytes_sent', 'bytes_total');

it('a task tells what it sent itself, and not what an earlier one had sent', async () => {
  const layer = layerOver(null, 2 * MIB, [['data', 20]]);
  const total = layer.stream.length;
  const earlier = await bench.begin(layer);
  const sink = await bench.openSink(earlier, layer);
  await sink.write(layer.stream.subarray(0, 65_536), 0);
  await sink.flush();
  await sink.close();

  const run = await bench.begin(layer);
  // Over two connections.
  const first = await bench.openSink(run, layer);
  expect(first.durableBytes).toBe(65_536);
  await first.write(layer.stream.subarray(65_536, 131_072), 65_536);
  await first.flush();
  await first.close();
  await bench.receive(run, layer);
  expect(await bytesOf(run)).toEqual({ bytes_sent: total - 65_536, bytes_total: total });
  await bench.seal(run);
  const { disks } = await bench.catalog.finishTask(run);
  expect(disks).toMatchObject([{ bytesSent: total - 65_536, bytesTotal: total }]);
});

it('a task over which the receiving process is restarted has sent all the same', async () => {
  const layer = layerOver(null, 2 * MIB, [['data', 20]]);
  const run = await bench.begin(layer);
  const sink = await bench.openSink(run, layer);
  await sink.write(layer.stream.subarray(0, 65_536), 0);
  await sink.flush();
  await sink.close();
  const { catalog, replicaRoot } = bench;
  const restarted = createSessionDirectory({ catalog, replicaRoot });
  const rest = await restarted.resumeSink(run.session, mapDigest(layer.map, createXxh128));
  if (rest === null) throw new Error('there is nothing to go on with');
  await rest.write(layer.stream.subarray(65_536), 65_536);
  const contentDigest = toHex(await rest.finish());
  await rest.close();
  await restarted.markReceived(run.session, { totalBytes: layer.stream.length, contentDigest });
  expect(await bytesOf(run)).toEqual({ bytes_sent: layer.stream.length, bytes_total: layer.stream.length });
});

it('a task that finds everything there sent nothing', async () => {
  const layer = layerOver(null, MIB, [['data', 3]]);
  const earlier = await bench.begin(layer);
  const sink = await bench.openSink(earlier, layer);
  await sink.write(layer.stream, 0);
  await sink.flush();
  await sink.close();
  const run = await bench.begin(layer);
  await bench.receive(run, layer);
  expect(await bytesOf(run)).toEqual({ bytes_sent: 0, bytes_total: layer.stream.length });
});
