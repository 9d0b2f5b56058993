/** The receiver's half of a comparison: hashes what the replica site has, and says durably what it was. */
import { ExtentMapError, type MapShape } from '../domain/extent-map.ts';
import { formatSize } from '../lib/sizes.ts';
import type { Visitor } from './disk-registry.ts';
import { ConnectionLostError } from './errors.ts';
import { encodeCompared, encodeHashes } from './messages.ts';
import type { SessionRecord } from './ports.ts';
import type { ReceiverContext } from './receiver-context.ts';

const MIN_CLUSTER_BYTES = 16 * 1024;
const MAX_CLUSTER_BYTES = 2 * 1024 * 1024;

/**
 * Sends a hash for each cluster of what is here, in order, then what it was. Nothing is written but the note of it.
 * @throws {ConnectionLostError} soon after the connection was lost or cut
 */
export async function answerComparison(
  visitor: Visitor,
  session: SessionRecord,
  shape: MapShape,
  { directory, registry, log }: ReceiverContext,
): Promise<void> {
  assertShape(shape);
  const { connection, diskTaskUuid } = visitor;
  registry.report(visitor, { note: 'opens what the disk is compared with' });
  const base = await directory.openBase(session, shape);
  if ('none' in base) {
    log.warn({ event: 'nothing-to-compare', diskTaskUuid }, base.none);
    connection.send(encodeCompared({ token: null, text: base.none }));
    return;
  }
  try {
    for await (const run of base.runs()) {
      if (visitor.isCut || connection.failure !== null) {
        throw connection.failure ?? new ConnectionLostError('the connection was cut');
      }
      await connection.write(encodeHashes(run));
      const hashed = `${formatSize(run.offset)} of ${formatSize(shape.virtualSizeBytes)}`;
      registry.report(visitor, { note: `hashes ${base.text}: ${hashed}` });
    }
    const settled = await base.settle();
    log.info({ event: 'hashed', diskTaskUuid }, settled.text);
    connection.send(encodeCompared(settled));
  } finally {
    await base.close();
  }
}

function assertShape({ virtualSizeBytes, clusterSizeBytes }: MapShape): void {
  const isPossible =
    Number.isInteger(Math.log2(clusterSizeBytes)) &&
    clusterSizeBytes >= MIN_CLUSTER_BYTES &&
    clusterSizeBytes <= MAX_CLUSTER_BYTES &&
    virtualSizeBytes > 0;
  if (!isPossible) {
    throw new ExtentMapError(
      `a disk of ${virtualSizeBytes} bytes cannot be compared in clusters of ${clusterSizeBytes} bytes`,
    );
  }
}
