/** Rules 1 and 5: every published point is whole, true to its snapshot at A, and sound to QEMU. */
import { open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { qemuCheck, qemuIdentical } from '../qemu.ts';
import { checkJournal } from './journal-rules.ts';
import { type Catalogs, type DiskRow, isPoint, type SnapshotRow, type StorageRow } from './site-rows.ts';
import { collect, type Violation } from './violation.ts';

export async function* checkPoints({ source, replica }: Catalogs): AsyncGenerator<Violation, undefined> {
  const seen = new Set<string>();
  for (const point of replica.snapshots.filter(isPoint)) {
    if (seen.has(point.uuid)) {
      yield { rule: 2, code: 'secondPoint', text: `${point.uuid} was published twice` };
    }
    seen.add(point.uuid);
    const origin = source.snapshots.find(row => row.uuid === point.uuid && isPoint(row)) ?? null;
    yield* checkDiskSet(point, origin);
    // The disks side by side: QEMU's tools take most of the time.
    const found = await Promise.all(
      point.disks.map(disk => {
        const atSource = origin?.disks.find(row => row.disk === disk.disk) ?? null;
        return collect(checkDisk(point, disk, atSource, replica.storages));
      }),
    );
    yield* found.flat();
  }
}

async function* checkDisk(
  point: SnapshotRow,
  disk: DiskRow,
  origin: DiskRow | null,
  storages: readonly StorageRow[],
): AsyncGenerator<Violation, undefined> {
  const { storage } = disk;
  if (storage === null || storage.state !== 'published') {
    const text = `disk ${disk.disk} of point ${point.uuid} has no published file (${storage?.state})`;
    yield { rule: 1, code: 'pointIncomplete', text };
    return;
  }
  const where = `${storage.path}, disk ${disk.disk} of point ${point.uuid},`;
  if (storage.format === 'cdp') {
    yield* checkJournal(
      where,
      { path: storage.path, checkpoint: point.checkpoint ?? 0 },
      origin?.storage?.path,
    );
    return;
  }
  yield* checkBacking(where, storage, storages);
  yield* checkImage(where, disk, storage, origin);
}

function* checkDiskSet(point: SnapshotRow, origin: SnapshotRow | null): Generator<Violation, undefined> {
  const names = (snapshot: SnapshotRow): string =>
    snapshot.disks
      .map(row => row.disk)
      .toSorted()
      .join(', ');
  if (point.disks.length === 0 || (origin !== null && names(origin) !== names(point))) {
    const text = `point ${point.uuid} has the disks ${names(point)}, its snapshot at A ${origin && names(origin)}`;
    yield { rule: 1, code: 'pointIncomplete', text };
  }
}

/** The rows say which layer lies beneath, the file says it too, and both lie side by side. */
async function* checkBacking(
  where: string,
  storage: StorageRow,
  storages: readonly StorageRow[],
): AsyncGenerator<Violation, undefined> {
  const base = storages.find(row => row.id === storage.baseId) ?? null;
  if (base !== null && base.state !== 'published') {
    yield {
      rule: 5,
      code: 'baseNotPublished',
      text: `${where} stands on ${base.path}, which is ${base.state}`,
    };
  }
  if (base !== null && dirname(base.path) !== dirname(storage.path)) {
    yield { rule: 1, code: 'baseElsewhere', text: `${where} stands on ${base.path}, in another directory` };
  }
  const named = await readBackingName(storage.path).catch(() => undefined);
  // A file that cannot be read has its own violation.
  if (named === undefined) return;
  const expected = base === null ? null : basename(base.path);
  if (named !== expected) {
    yield { rule: 1, code: 'baseWrong', text: `${where} names ${named} as its base, its row ${expected}` };
  }
}

async function* checkImage(
  where: string,
  disk: DiskRow,
  { path }: StorageRow,
  origin: DiskRow | null,
): AsyncGenerator<Violation, undefined> {
  try {
    const report = await qemuCheck(path);
    if (report.corruptions + report.leaks + report.checkErrors > 0) {
      yield { rule: 1, code: 'imageFaulty', text: `${where} has faults: ${JSON.stringify(report)}` };
    }
    if (origin?.storage == null) return;
    if (origin.virtualSizeBytes !== disk.virtualSizeBytes) {
      const text = `${where} has ${disk.virtualSizeBytes} bytes, at A ${origin.virtualSizeBytes}`;
      yield { rule: 1, code: 'contentDiffers', text };
    } else if (!(await qemuIdentical(path, origin.storage.path))) {
      yield { rule: 1, code: 'contentDiffers', text: `${where} differs from ${origin.storage.path}` };
    }
  } catch (error) {
    yield {
      rule: 1,
      code: 'imageUnreadable',
      text: `${where} cannot be judged: ${(error as Error).message}`,
    };
  }
}

/** Read here and not by the project's own reader, which must not judge itself. @see QEMU docs/interop/qcow2 */
async function readBackingName(path: string): Promise<string | null> {
  await using file = await open(path, 'r');
  const header = Buffer.alloc(20);
  await file.read(header, 0, header.length, 0);
  const nameOffset = Number(header.readBigUInt64BE(8));
  if (nameOffset === 0) return null;
  const name = Buffer.alloc(header.readUInt32BE(16));
  await file.read(name, 0, name.length, nameOffset);
  return name.toString('utf8');
}
