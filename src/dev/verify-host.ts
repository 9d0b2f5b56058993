/** Is a host's recovery point at site b what its snapshot at site a is? */
import { join } from 'node:path';
import { OffsiteError } from '../domain/errors.ts';
import type { openReplicaInventory, openSourceInventory } from '../sites/cli-services.ts';
import type { DevSites } from './dev-layout.ts';
import type { DevOutput, MainJobResult, ReplicatedDisk } from './dev-output.ts';
import { verifyReplica } from './verify.ts';

interface Inventories {
  readonly source: Pick<Awaited<ReturnType<typeof openSourceInventory>>, 'listSnapshots'>;
  readonly replica: Pick<Awaited<ReturnType<typeof openReplicaInventory>>, 'listPoints'>;
}

/**
 * Hashes both sides of every disk of one host snapshot.
 * @throws {OffsiteError} `NothingPublished` when the snapshot is no recovery point @throws {ImageError}
 */
export async function verifyHost(
  { host, snapshot }: { readonly host: string; readonly snapshot: string },
  { source, replica }: Inventories,
  { sites, signal }: { readonly sites: DevSites; readonly signal: AbortSignal },
  output: Pick<DevOutput, 'verified' | 'missing'>,
): Promise<MainJobResult> {
  const points = await replica.listPoints({ host });
  const point = points.find(candidate => candidate.point === snapshot);
  const taken = (await source.listSnapshots({ host })).find(candidate => candidate.snapshot === snapshot);
  if (point === undefined || taken === undefined) {
    throw new OffsiteError(
      'NothingPublished',
      `site ${sites.b.site} has no recovery point of snapshot ${snapshot} of ${host}`,
      "A snapshot that is older than the newest recovery point is passed over; 'offsite replica list' shows what there is.",
    );
  }
  const disks: ReplicatedDisk[] = [];
  for (const { disk, path } of taken.disks) {
    const copy = point.disks.find(candidate => candidate.disk === disk);
    if (copy === undefined) {
      output.missing(disk);
      continue;
    }
    const result = await verifyReplica({
      sourceTop: path,
      replicaTop: copy.path,
      imageRootsSource: sites.a.source?.imageRoots ?? [],
      imageRootsReplica: [sites.b.replica?.directory ?? join(sites.b.dataDir, 'replicas')],
      signal,
    });
    output.verified(disk, copy.path, result);
    const { virtualSizeBytes } = copy;
    disks.push({ disk, path: copy.path, virtualSizeBytes, equal: result.equal });
  }
  const isWhole = disks.length === taken.disks.length && disks.length === point.disks.length;
  return {
    host,
    snapshot,
    takenAt: point.takenAt,
    points: points.length,
    disks,
    verified: isWhole && disks.every(({ equal }) => equal),
  };
}
