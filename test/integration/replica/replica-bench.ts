/** A replica site without its network: catalog, session directory and files, fed by hand. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { ReplicaFiles } from '../../../src/activities/replica-ports.ts';
import type { Database } from '../../../src/catalog/database.ts';
import { createReplicaCatalog, type ReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import type { Fence } from '../../../src/contract/fence.ts';
import type { ScheduleSpec } from '../../../src/contract/schedule.ts';
import { ContentDigester, mapDigest } from '../../../src/domain/content-digest.ts';
import type { ExtentMap } from '../../../src/domain/extent-map.ts';
import { createXxh128, toHex } from '../../../src/lib/digest.ts';
import type { SizeOrShare } from '../../../src/lib/sizes.ts';
import { createReplicaFiles } from '../../../src/sites/replica-files.ts';
import { createReplicaSpace, createUsageCounter, type Quotas } from '../../../src/sites/replica-space.ts';
import { createSessionDirectory } from '../../../src/sites/session-directory.ts';
import type { LayerSink, SessionDirectory, SessionRecord } from '../../../src/transfer/ports.ts';
import { qemuImg } from '../../support/qemu.ts';
import { contentOf, mapOf, type Run, randomBytes } from '../../unit/images/replica-fixtures.ts';
import { answerOf, FINGERPRINT, fenceOf, newSchedule, planOf } from '../catalog/fixtures.ts';

export const NODE = 'b1';

/** One layer as the source would send it; `base` is the host snapshot beneath. */
export interface SentLayer {
  readonly snapshot: string;
  readonly base: string | null;
  readonly map: ExtentMap;
  readonly stream: Buffer;
  /** What a guest reads. */
  readonly content: Buffer;
}

let seed = 100;
/** @param below null for a full copy */
export function layerOver(
  below: SentLayer | null,
  sizeBytes: number,
  runs: readonly Run[],
  clusterBytes = 65_536,
): SentLayer {
  seed += 1;
  const map = mapOf(sizeBytes, clusterBytes, runs);
  const stream = randomBytes(map.dataBytes, seed);
  const content = contentOf(map, stream, below?.content ?? null);
  return { snapshot: randomUUID(), base: below?.snapshot ?? null, map, stream, content };
}

export interface DiskRun {
  readonly fence: Fence;
  readonly taskUuid: string;
  readonly diskTaskUuid: string;
  readonly session: SessionRecord;
}

export interface ReplicaBench {
  readonly root: string;
  readonly replicaRoot: string;
  readonly catalog: ReplicaCatalog;
  readonly directory: SessionDirectory;
  readonly files: ReplicaFiles;
  readonly spec: ScheduleSpec;
  /** A task whose only disk is to become `layer`, with its receiver's session open. */
  begin(layer: SentLayer, senderFingerprint?: string): Promise<DiskRun>;
  openSink(run: DiskRun, layer: SentLayer): Promise<LayerSink>;
  /** Sends what the sink lacks, and has it noted as received. */
  receive(run: DiskRun, layer: SentLayer): Promise<{ sentBytes: number }>;
  /** Seals the file, without its row. */
  sealFile(run: DiskRun): ReturnType<ReplicaFiles['seal']>;
  seal(run: DiskRun): Promise<string>;
  /** The whole way to a recovery point. @returns the sealed file */
  publish(layer: SentLayer): Promise<string>;
  close(): Promise<void>;
}

/**
 * @param nowMs the clock by which writers ask whether their session is still theirs
 * @param options.root a folder that is there and stays; by default one of the bench's own
 * @param options.limits what the replicas may occupy
 */
export async function createReplicaBench(
  db: Database,
  chainLimit?: number,
  nowMs?: () => number,
  options: { readonly root?: string; readonly limits?: { reserve: SizeOrShare; quotas: Quotas } } = {},
): Promise<ReplicaBench> {
  const root = options.root ?? (await mkdtemp(join(tmpdir(), 'offsite-test-')));
  const replicaRoot = join(root, 'replicas');
  const catalog = createReplicaCatalog(db, { site: 'b', replicaRoot, ...(chainLimit && { chainLimit }) });
  const space =
    options.limits &&
    createReplicaSpace({
      ...options.limits,
      usage: createUsageCounter({ files: () => catalog.storageFiles(), node: NODE }),
      hostOf: path => basename(dirname(dirname(path))),
    });
  const parts = { catalog, replicaRoot, ...(nowMs && { nowMs }), ...(space && { space }) };
  const directory = createSessionDirectory(parts);
  const files = createReplicaFiles({ ...parts, node: NODE });
  const spec = await newSchedule(catalog);

  const bench: ReplicaBench = {
    ...{ root, replicaRoot, catalog, directory, files, spec },

    async begin(layer, senderFingerprint = FINGERPRINT) {
      const taskUuid = randomUUID();
      const { generation } = await catalog.createEmptyTask({ scheduleUuid: spec.uuid, taskUuid });
      const fence = fenceOf(spec.uuid, generation);
      const method = layer.base === null ? 'full' : 'incremental';
      const virtualSizeBytes = layer.map.virtualSizeBytes;
      const answer = answerOf(layer.snapshot, [
        planOf({ method, baseSnapshot: layer.base, virtualSizeBytes }),
      ]);
      const [disk] = await catalog.recordSyncInfo({ fence, taskUuid, answer, node: NODE });
      const diskTaskUuid = disk?.diskTaskUuid ?? '';
      const epoch = { generation, plan: 1, openCount: 1 };
      await catalog.openSession({ fence, diskTaskUuid, epoch, senderFingerprint });
      const session = (await directory.find(diskTaskUuid)) as SessionRecord;
      return { fence, taskUuid, diskTaskUuid, session };
    },

    async openSink({ session }, { map }) {
      const known = await directory.resumeSink(session, mapDigest(map, createXxh128));
      return known ?? directory.openSink(session, map);
    },

    async receive(run, layer) {
      const sink = await bench.openSink(run, layer);
      try {
        const sentBytes = layer.stream.length - sink.durableBytes;
        await sink.write(layer.stream.subarray(sink.durableBytes), sink.durableBytes);
        const contentDigest = toHex(await sink.finish());
        if (contentDigest !== digestOf(layer)) throw new Error('the two digests differ');
        await directory.markReceived(run.session, { totalBytes: layer.stream.length, contentDigest });
        return { sentBytes };
      } finally {
        await sink.close();
      }
    },

    async sealFile({ diskTaskUuid }) {
      const { received } = (await catalog.findSession(diskTaskUuid)) ?? {};
      if (received == null) throw new Error('nothing was received');
      return files.seal(diskTaskUuid, received);
    },

    async seal(run) {
      const { path, file } = await bench.sealFile(run);
      await catalog.markSealed({ ...run, path, file });
      return path;
    },

    async publish(layer) {
      const run = await bench.begin(layer);
      await bench.receive(run, layer);
      const path = await bench.seal(run);
      await catalog.finishTask(run);
      return path;
    },

    async close() {
      if (options.root === undefined) await rm(root, { recursive: true, force: true });
    },
  };
  return bench;
}

/** What the source computes of its own stream. */
function digestOf({ map, stream }: SentLayer): string {
  const digester = new ContentDigester(map, createXxh128);
  digester.update(stream);
  return toHex(digester.finish());
}

/** How many files QEMU opens for this image. */
export async function chainDepth(path: string): Promise<number> {
  const chain = await qemuImg('info', '--backing-chain', '--output=json', '-f', 'qcow2', path);
  return (JSON.parse(chain) as unknown[]).length;
}

/** The whole guest content as QEMU reads it. */
export async function readByQemu(path: string, into: string): Promise<Buffer> {
  const raw = join(into, `${randomUUID()}.raw`);
  try {
    await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, raw);
    return await readFile(raw);
  } finally {
    await rm(raw, { force: true });
  }
}
