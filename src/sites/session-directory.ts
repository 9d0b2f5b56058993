/** The receiver's durable knowledge: sessions and layouts in catalog B, the bytes in replica files. */
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { ReplicaLayout } from '../catalog/replica-layouts.ts';
import type { Comparison } from '../catalog/replica-rows.ts';
import { mapDigest } from '../domain/content-digest.ts';
import { PlanBrokenError, ReopenNeededError } from '../domain/errors.ts';
import type { ExtentMap } from '../domain/extent-map.ts';
import { ReplicaFileError } from '../images/replica/errors.ts';
import { readStoredMap } from '../images/replica/map-file.ts';
import { incrementName } from '../images/replica/names.ts';
import { openPartial, type PartialReplica } from '../images/replica/partial.ts';
import { removeReplicaFiles } from '../images/replica/remove.ts';
import type { SpaceKeeper } from '../images/replica/space.ts';
import { openIncrement } from '../images/replica/stand-alone.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import type { ComparedOffer } from '../transfer/messages.ts';
import type { LayerSink, SessionDirectory, SessionRecord } from '../transfer/ports.ts';
import { openBase } from './comparison-base.ts';
import { createJournalSinks } from './journal-sinks.ts';
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
  /** Folders below which images for comparisons may lie, beside the replicas' own. */
  seedRoots?: readonly string[];
  nowMs?: () => number;
}): SessionDirectory {
  const { catalog, replicaRoot, space, ground, seedRoots = [], nowMs } = parts;
  const find = (diskTaskUuid: string) => catalog.findSession(diskTaskUuid);
  const sent = createSentCounts();
  const journalSinks = createJournalSinks({ journals: catalog, find, ground, nowMs });

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
    if (layout.backing !== null && layout.compared?.isProven !== false) {
      await ground?.proveBase(session.diskTaskUuid);
    }
    const partial = await openReplica(layout, map, [replicaRoot, ...seedRoots], space).catch(onFault);
    return {
      dataBytes: map.dataBytes,
      get durableBytes() {
        return partial.durableBytes;
      },
      async write(bytes, position) {
        await lease.renew();
        await partial.write(bytes, position);
        sent.add(session.diskTaskUuid, bytes.length);
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

    openBase: (session, shape) => openBase({ ...parts, session, shape }),

    async resumeSink(session, digest, compared) {
      const { diskTaskUuid } = session;
      const layout = await catalog.findLayout(diskTaskUuid);
      if (layout === null) return null;
      if (layout.compared?.token != null && compared != null) {
        assertSameComparison(layout.compared, hexOf(compared));
      }
      if (layout.mapDigest !== toHex(digest)) {
        throw new PlanBrokenError('the sender has another extent map than when this disk was begun');
      }
      const map = await readStoredMap(layout.directory, receivedName(layout));
      if (map === null || toHex(mapDigest(map, createXxh128)) !== layout.mapDigest) return null;
      const sink = await openSinkOf(session, layout, map);
      // After a restart of this process: what is durable came mostly for this disk task, which had a layout already.
      sent.begin(diskTaskUuid, sink.durableBytes);
      return sink;
    },

    async openSink(session, map, compared) {
      const { diskTaskUuid, epoch } = session;
      const layout = await catalog.adoptLayout({
        diskTaskUuid,
        epoch,
        mapDigest: toHex(mapDigest(map, createXxh128)),
        virtualSizeBytes: map.virtualSizeBytes,
        clusterSizeBytes: map.clusterSizeBytes,
        compared: compared == null ? null : hexOf(compared),
      });
      sent.begin(diskTaskUuid, 0);
      return openSinkOf(session, layout, map);
    },

    openJournal: (session, identity) => journalSinks.open(session, identity),

    noteSourceClock: ({ diskTaskUuid }, sentAtMs) => catalog.noteSourceClock({ diskTaskUuid, sentAtMs }),

    async markReceived({ diskTaskUuid, epoch }, received) {
      const sentBytes = Math.min(sent.of(diskTaskUuid), received.totalBytes);
      await catalog.markReceived({ diskTaskUuid, epoch, ...received, sentBytes });
      sent.forget(diskTaskUuid);
    },
  };
}

/** Disk tasks whose bytes are counted at one time; the oldest is forgotten first. */
const MOST_COUNTED = 10_000;

/** What came for each disk task: less than the whole where an earlier one had sent a part. */
function createSentCounts() {
  const counts = new Map<string, number>();
  return {
    /** Where nothing is known of the disk task yet. */
    begin(diskTaskUuid: string, sizeBytes: number): void {
      if (!counts.has(diskTaskUuid)) this.add(diskTaskUuid, sizeBytes);
    },
    add(diskTaskUuid: string, sizeBytes: number): void {
      counts.set(diskTaskUuid, (counts.get(diskTaskUuid) ?? 0) + sizeBytes);
      const [oldest] = counts.keys();
      if (counts.size > MOST_COUNTED && oldest !== undefined) counts.delete(oldest);
    },
    of: (diskTaskUuid: string): number => counts.get(diskTaskUuid) ?? 0,
    forget: (diskTaskUuid: string): void => void counts.delete(diskTaskUuid),
  };
}

const hexOf = ({ token, guestDigest }: ComparedOffer) => ({
  token: toHex(token),
  guestDigest: toHex(guestDigest),
});

/** The same base was hashed; the same target must have been, too. */
function assertSameComparison(settled: Comparison, offered: ReturnType<typeof hexOf>): void {
  if (settled.token !== offered.token) {
    throw new ReopenNeededError('the disk was compared with something else since');
  }
  if (settled.guestDigest !== offered.guestDigest) {
    throw new PlanBrokenError('the sender has another content than when this disk was begun');
  }
}

const receivedName = ({ finalName, standsAlone }: ReplicaLayout): string =>
  standsAlone ? incrementName(finalName) : finalName;

function openReplica(
  layout: ReplicaLayout,
  map: ExtentMap,
  imageRoots: readonly string[],
  space: SpaceKeeper | undefined,
): Promise<PartialReplica> {
  const { directory, finalName, backing } = layout;
  const input = { directory, finalName, map, backing, space };
  return layout.standsAlone ? openIncrement({ ...input, imageRoots }) : openPartial(input);
}
