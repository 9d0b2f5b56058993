/** The receiver's durable knowledge: sessions and layouts in catalog B, the bytes in replica files. */
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { ReplicaLayout } from '../catalog/replica-layouts.ts';
import { mapDigest } from '../domain/content-digest.ts';
import { PlanBrokenError } from '../domain/errors.ts';
import type { ExtentMap } from '../domain/extent-map.ts';
import { ReplicaFileError } from '../images/replica/errors.ts';
import { readStoredMap } from '../images/replica/map-file.ts';
import { incrementName } from '../images/replica/names.ts';
import { openPartial, type PartialReplica } from '../images/replica/partial.ts';
import { removeReplicaFiles } from '../images/replica/remove.ts';
import type { SpaceKeeper } from '../images/replica/space.ts';
import { openIncrement } from '../images/replica/stand-alone.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import type { LayerSink, SessionDirectory, SessionRecord } from '../transfer/ports.ts';
import { createLease, sessionRefusal } from './lease.ts';
import type { ReplicaGround } from './replica-ground.ts';

/**
 * @param parts.replicaRoot the folder of all replicas of this node
 * @param parts.nowMs the clock of {@link createLease}
 */
export function createSessionDirectory(parts: {
  catalog: ReplicaCatalog;
  replicaRoot: string;
  /** By default the file system is looked at once for each disk. */
  space?: SpaceKeeper;
  /** Looked at before a layer is opened; by default nothing is. */
  ground?: Pick<ReplicaGround, 'assertThere' | 'proveBase'>;
  nowMs?: () => number;
}): SessionDirectory {
  const { catalog, replicaRoot, space, ground, nowMs } = parts;
  const find = (diskTaskUuid: string) => catalog.findSession(diskTaskUuid);

  /** The next plan begins another file; this one goes now, or with its schedule should we not get to it. */
  async function reject({ diskTaskUuid, epoch }: SessionRecord, fault: ReplicaFileError): Promise<never> {
    const path = await catalog.rejectLayout({ diskTaskUuid, epoch });
    if (path !== null) await removeReplicaFiles(path);
    throw new PlanBrokenError(`what was received before is of no use: ${fault.message}`, { cause: fault });
  }

  async function openSinkOf(
    session: SessionRecord,
    layout: ReplicaLayout,
    map: ExtentMap,
  ): Promise<LayerSink> {
    const onFault = (error: unknown): Promise<never> => {
      if (error instanceof ReplicaFileError) return reject(session, error);
      throw error;
    };
    const lease = createLease(async () => sessionRefusal(session, await find(session.diskTaskUuid)), nowMs);
    await ground?.assertThere();
    if (layout.backing !== null) await ground?.proveBase(session.diskTaskUuid);
    const partial = await openReplica(layout, map, replicaRoot, space).catch(onFault);
    return {
      dataBytes: map.dataBytes,
      get durableBytes() {
        return partial.durableBytes;
      },
      async write(bytes, position) {
        await lease.renew();
        await partial.write(bytes, position);
      },
      async flush() {
        await lease.renew();
        return partial.flush();
      },
      async finish() {
        await lease.renew();
        return partial.finish();
      },
      async discard() {
        await lease.renew();
        await partial.discard().catch(onFault);
      },
      close: () => partial.close(),
    };
  }

  return {
    find,

    async resumeSink(session, digest) {
      const { diskTaskUuid } = session;
      const layout = await catalog.findLayout(diskTaskUuid);
      if (layout === null) return null;
      if (layout.mapDigest !== toHex(digest)) {
        throw new PlanBrokenError('the sender has another extent map than when this disk was begun');
      }
      const map = await readStoredMap(layout.directory, receivedName(layout));
      if (map === null || toHex(mapDigest(map, createXxh128)) !== layout.mapDigest) return null;
      return openSinkOf(session, layout, map);
    },

    async openSink(session, map) {
      const { diskTaskUuid, epoch } = session;
      const layout = await catalog.adoptLayout({
        diskTaskUuid,
        epoch,
        mapDigest: toHex(mapDigest(map, createXxh128)),
        virtualSizeBytes: map.virtualSizeBytes,
        clusterSizeBytes: map.clusterSizeBytes,
      });
      return openSinkOf(session, layout, map);
    },

    noteSourceClock: ({ diskTaskUuid }, sentAtMs) => catalog.noteSourceClock({ diskTaskUuid, sentAtMs }),

    markReceived: ({ diskTaskUuid, epoch }, received) =>
      catalog.markReceived({ diskTaskUuid, epoch, ...received }),
  };
}

const receivedName = ({ finalName, standsAlone }: ReplicaLayout): string =>
  standsAlone ? incrementName(finalName) : finalName;

function openReplica(
  layout: ReplicaLayout,
  map: ExtentMap,
  replicaRoot: string,
  space: SpaceKeeper | undefined,
): Promise<PartialReplica> {
  const { directory, finalName, backing } = layout;
  const input = { directory, finalName, map, backing, space };
  return layout.standsAlone ? openIncrement({ ...input, imageRoots: [replicaRoot] }) : openPartial(input);
}
