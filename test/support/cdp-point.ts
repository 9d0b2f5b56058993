/** Published points of continuous data protection, made by hand: files as a receiver leaves them, rows as B has them. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Database } from '../../src/catalog/database.ts';
import { JournalWriter } from '../../src/images/cdp/journal-writer.ts';
import { qemuImg } from './qemu.ts';

const MIB = 1024 * 1024;

/** Where the points are made. */
export interface CdpSite {
  readonly db: Database;
  readonly node: string;
  readonly replicaRoot: string;
}

/** A host snapshot in B's catalog. */
export interface MadePoint {
  readonly id: number;
  readonly uuid: string;
  /** Of each disk the image or the journal's folder, and its disk snapshot's id. */
  readonly disks: ReadonlyMap<
    string,
    { readonly path: string; readonly id: number; readonly sizeBytes: number; readonly storageId: number }
  >;
}

/** What a recorder saw, in order. A checkpoint is one of all disks. */
export type CdpStep = { readonly timeUs: number } & (
  | { readonly kind: 'write'; readonly disk: string; readonly offset: number; readonly bytes: Buffer }
  | {
      readonly kind: 'zero' | 'discard';
      readonly disk: string;
      readonly offset: number;
      readonly length: number;
    }
  | { readonly kind: 'checkpoint'; readonly marker?: string }
);

/** The sequence of a step: they are numbered from 1. */
export const sequenceOf = (index: number): number => index + 1;

/** An ordinary recovery point whose images have the given content. */
export async function publishBase(
  site: CdpSite,
  input: { host: string; disks: Readonly<Record<string, Buffer>>; takenAtMs: number },
): Promise<MadePoint> {
  const uuid = randomUUID();
  const paths = new Map<string, string>();
  for (const [disk, content] of Object.entries(input.disks)) {
    const path = join(site.replicaRoot, input.host, disk, `${uuid}.${'a'.repeat(16)}.qcow2`);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(`${path}.raw`, content);
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', `${path}.raw`, path);
    await rm(`${path}.raw`);
    paths.set(disk, path);
  }
  return insertPoint(site, {
    ...{ uuid, host: input.host, kind: 'qcow2', takenAtMs: input.takenAtMs, parent: null },
    disks: Object.entries(input.disks).map(([disk, content]) => ({
      disk,
      path: paths.get(disk) ?? '',
      sizeBytes: content.length,
    })),
  });
}

export interface EpochInput {
  readonly host: string;
  readonly base: MadePoint;
  readonly takenAtMs: number;
  readonly steps: readonly CdpStep[];
  /** The sequence of the newest published checkpoint: the newest of the steps by default. */
  readonly published?: number;
  readonly epoch?: number;
  /** Null while a recorder is at it. */
  readonly endedReason?: string | null;
  readonly segmentBytes?: number;
  /** Gets the journals' writers by disk, which are then left open. */
  readonly keep?: Map<string, JournalWriter>;
}

/** An epoch over a base, with its journals; steps behind the published checkpoint are in the journals only. */
export async function publishEpoch(site: CdpSite, input: EpochInput): Promise<MadePoint> {
  const { host, base, steps, takenAtMs, epoch = 1, endedReason = null } = input;
  const uuid = randomUUID();
  const journals = [...base.disks].map(([disk, { sizeBytes }]) => ({
    ...{ disk, sizeBytes, path: join(site.replicaRoot, host, disk, `${uuid}.0a1b2c3d.cdp`) },
  }));
  const nextIndex = new Map<string, number>();
  for (const { disk, path, sizeBytes } of journals) {
    const identity = { epoch: uuid, host, disk, virtualSizeBytes: sizeBytes };
    const writer = await JournalWriter.create(
      { directory: path, identity, segmentBytes: input.segmentBytes ?? 2 * MIB },
      { sequence: 0, timeUs: takenAtMs * 1000 },
    );
    for (const [index, step] of steps.entries()) {
      if (step.kind !== 'checkpoint' && step.disk !== disk) continue;
      await writer.append({ ...recordOf(step), sequence: sequenceOf(index), timeUs: step.timeUs });
    }
    await (input.keep?.set(disk, writer) ?? writer.close());
    nextIndex.set(disk, writer.durable.index);
  }
  const checkpoints = steps.flatMap((step, index) =>
    step.kind === 'checkpoint' ? [{ sequence: sequenceOf(index), step }] : [],
  );
  const published = input.published ?? checkpoints.at(-1)?.sequence ?? 0;
  const newest = checkpoints.find(({ sequence }) => sequence === published);
  const point = await insertPoint(site, {
    uuid,
    host,
    kind: 'cdp',
    // A point's time at B is that of its newest checkpoint.
    takenAtMs: newest === undefined ? takenAtMs : newest.step.timeUs / 1000,
    parent: base,
    disks: journals,
  });
  await site.db('cdp_epochs').insert({
    ...{ host_snapshot_id: point.id, base_snapshot_id: base.id, epoch },
    ...{ ended_at: endedReason === null ? null : new Date(), ended_reason: endedReason },
    newest_checkpoint: published,
    newest_checkpoint_at: newest === undefined ? null : new Date(newest.step.timeUs / 1000),
  });
  for (const [disk, { storageId }] of point.disks) {
    await site.db('cdp_journals').insert({
      storage_id: storageId,
      next_index: nextIndex.get(disk),
      checkpoint: published,
      checkpoint_at: newest === undefined ? null : new Date(newest.step.timeUs / 1000),
      record_bytes: steps.length * 4096,
    });
  }
  for (const { sequence, step } of checkpoints) {
    if (step.kind !== 'checkpoint' || step.marker === undefined) continue;
    await site.db('cdp_markers').insert({
      ...{ host_snapshot_id: point.id, sequence, name: step.marker },
      marked_at: new Date(step.timeUs / 1000),
    });
  }
  return point;
}

/** What a disk holds at a checkpoint, by another way than the program's: each write into a buffer. */
export function replayed(base: Buffer, disk: string, steps: readonly CdpStep[], checkpoint: number): Buffer {
  const content = Buffer.from(base);
  for (const step of steps.slice(0, checkpoint)) {
    if (step.kind === 'checkpoint' || step.disk !== disk) continue;
    if (step.kind === 'write') step.bytes.copy(content, step.offset);
    else content.fill(0, step.offset, step.offset + step.length);
  }
  return content;
}

function recordOf(step: CdpStep) {
  switch (step.kind) {
    case 'write':
      return { type: 'write' as const, offset: step.offset, length: step.bytes.length, payload: step.bytes };
    case 'checkpoint': {
      const payload = Buffer.from(step.marker ?? '');
      return { type: 'checkpoint' as const, offset: 0, length: payload.length, payload };
    }
    default:
      return { type: step.kind, offset: step.offset, length: step.length, payload: Buffer.alloc(0) };
  }
}

interface PointInput {
  readonly uuid: string;
  readonly host: string;
  readonly kind: 'qcow2' | 'cdp';
  readonly takenAtMs: number;
  readonly parent: MadePoint | null;
  readonly disks: readonly { readonly disk: string; readonly path: string; readonly sizeBytes: number }[];
}

async function insertPoint({ db, node }: CdpSite, input: PointInput): Promise<MadePoint> {
  const { uuid, host, kind, takenAtMs, parent } = input;
  await db('hosts').insert({ ident: host }).onConflict('ident').ignore();
  const [row] = await db('hosts')
    .where({ ident: host })
    .increment('last_sequence', 1)
    .returning<{ id: number; last_sequence: number }[]>(['id', 'last_sequence']);
  const hostId = row?.id ?? 0;
  const sequence = row?.last_sequence ?? 0;
  const [snapshot] = await db('host_snapshots')
    .insert({
      ...{ uuid, host_id: hostId, kind, origin_site: 'a', origin_sequence: sequence, sequence },
      ...{ taken_at: new Date(takenAtMs), state: 'complete', published_at: new Date() },
    })
    .returning<{ id: number }[]>('id');
  const id = snapshot?.id ?? 0;
  const disks = new Map<string, { path: string; id: number; sizeBytes: number; storageId: number }>();
  for (const { disk, path, sizeBytes } of input.disks) {
    await db('disks').insert({ host_id: hostId, ident: disk }).onConflict(['host_id', 'ident']).ignore();
    const { id: diskId } = await db('disks')
      .where({ host_id: hostId, ident: disk })
      .first<{ id: number }>('id');
    const [made] = await db('disk_snapshots')
      .insert({
        ...{ host_snapshot_id: id, disk_id: diskId, parent_id: parent?.disks.get(disk)?.id ?? null },
        virtual_size_bytes: sizeBytes,
      })
      .returning<{ id: number }[]>('id');
    const diskSnapshotId = made?.id ?? 0;
    const isImage = kind === 'qcow2';
    const [storage] = await db('snapshot_storages')
      .insert({
        ...{ disk_snapshot_id: diskSnapshotId, node, path, format: kind, state: 'published' },
        ...{ layout_digest: digestOf(path), map_digest: isImage ? digestOf(`${path} map`) : null },
        ...{ virtual_size_bytes: sizeBytes, cluster_size_bytes: isImage ? 65_536 : null },
        ...{ base_storage_id: parent?.disks.get(disk)?.storageId ?? null, published_at: new Date() },
      })
      .returning<{ id: number }[]>('id');
    await db('disk_snapshots').where({ id: diskSnapshotId }).update({ storage_id: storage?.id });
    disks.set(disk, { path, id: diskSnapshotId, sizeBytes, storageId: storage?.id ?? 0 });
  }
  return { id, uuid, disks };
}

const digestOf = (text: string): string => createHash('md5').update(text).digest('hex');
