/** The receiver's durable knowledge: sessions and layouts in catalog B, the bytes in replica files. */
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { ReplicaLayout } from '../catalog/replica-layouts.ts';
import { mapDigest } from '../domain/content-digest.ts';
import { PlanBrokenError } from '../domain/errors.ts';
import type { ExtentMap } from '../domain/extent-map.ts';
import { readStoredMap } from '../images/replica/map-file.ts';
import { incrementName } from '../images/replica/names.ts';
import { openPartial } from '../images/replica/partial.ts';
import { openIncrement } from '../images/replica/stand-alone.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import type { LayerSink, SessionDirectory } from '../transfer/ports.ts';

/** @param parts.replicaRoot the folder of all replicas of this node */
export function createSessionDirectory(parts: {
  catalog: ReplicaCatalog;
  replicaRoot: string;
}): SessionDirectory {
  const { catalog, replicaRoot } = parts;
  return {
    find: diskTaskUuid => catalog.findSession(diskTaskUuid),

    async resumeSink({ diskTaskUuid }, digest) {
      const layout = await catalog.findLayout(diskTaskUuid);
      if (layout === null) return null;
      if (layout.mapDigest !== toHex(digest)) {
        throw new PlanBrokenError('the sender has another extent map than when this disk was begun');
      }
      const map = await readStoredMap(layout.directory, receivedName(layout));
      if (map === null || toHex(mapDigest(map, createXxh128)) !== layout.mapDigest) return null;
      return openSinkOf(layout, map, replicaRoot);
    },

    async openSink({ diskTaskUuid, epoch }, map) {
      const layout = await catalog.adoptLayout({
        diskTaskUuid,
        epoch,
        mapDigest: toHex(mapDigest(map, createXxh128)),
        virtualSizeBytes: map.virtualSizeBytes,
        clusterSizeBytes: map.clusterSizeBytes,
      });
      return openSinkOf(layout, map, replicaRoot);
    },

    markReceived: ({ diskTaskUuid, epoch }, received) =>
      catalog.markReceived({ diskTaskUuid, epoch, ...received }),
  };
}

const receivedName = ({ finalName, standsAlone }: ReplicaLayout): string =>
  standsAlone ? incrementName(finalName) : finalName;

async function openSinkOf(layout: ReplicaLayout, map: ExtentMap, replicaRoot: string): Promise<LayerSink> {
  const { directory, finalName, backing } = layout;
  const input = { directory, finalName, map, backing };
  const partial = layout.standsAlone
    ? await openIncrement({ ...input, imageRoots: [replicaRoot] })
    : await openPartial(input);
  return {
    dataBytes: map.dataBytes,
    get durableBytes() {
      return partial.durableBytes;
    },
    write: (bytes, position) => partial.write(bytes, position),
    flush: () => partial.flush(),
    finish: () => partial.finish(),
    discard: () => partial.discard(),
    close: () => partial.close(),
  };
}
