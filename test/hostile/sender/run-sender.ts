/** The sender's conversation over a socket in memory. */
import { FrameConnection } from '../../../src/transfer/connection.ts';
import { LayerConversation } from '../../../src/transfer/layer-conversation.ts';
import { MAX_PIECE_BYTES, SENDER_LIMITS } from '../../../src/transfer/limits.ts';
import type { ContentWord } from '../../../src/transfer/messages.ts';
import { compareWithReceiver } from '../../../src/transfer/outgoing-comparison.ts';
import { OutgoingLayer } from '../../../src/transfer/outgoing-layer.ts';
import { SenderConversation } from '../../../src/transfer/sender-conversation.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { DISK_TASK, EPOCH } from '../frames/conversations.ts';
import type { MemorySocket } from '../receiver/memory-socket.ts';
import type { WatchedSource } from './watched-source.ts';

const LIMITS = { ...SENDER_LIMITS, queuedBytes: 4096, keepAliveMs: 600_000, idleMs: 600_000 };
const silent = (): void => {};

/**
 * As the sender does it on one connection.
 * @param onLayer told of what is sent: after a comparison that is another map than the source's
 * @param onDurable told of what the receiver says is durable
 */
export async function runSender(
  socket: MemorySocket,
  source: WatchedSource,
  isCompared: boolean,
  {
    onLayer,
    onDurable,
  }: { onLayer?: (layer: OutgoingLayer) => void; onDurable?: (bytes: number) => void } = {},
): Promise<ContentWord> {
  const connection = new FrameConnection(socket.asSocket, LIMITS, () => 1);
  const progress = { note: silent, durable: onDurable ?? silent, total: silent };
  const conversation = new SenderConversation(connection, {
    hello: { diskTaskUuid: DISK_TASK, epoch: EPOCH, attempt: 7 },
    async converse({ maxPieceBytes }) {
      const compared = isCompared ? await compareWithReceiver(connection, source, silent) : null;
      const layer =
        compared === null ? new OutgoingLayer(source) : new OutgoingLayer(compared.source, compared.offer);
      onLayer?.(layer);
      await layer.source.assertUnchanged();
      const most = Math.min(maxPieceBytes, MAX_PIECE_BYTES);
      const throttle = createThrottle(null);
      const said = new LayerConversation({ connection, layer, maxPieceBytes: most, throttle, progress });
      return said.stream(await said.offerMap());
    },
    nowMs: () => 1_700_000_000_000,
  });
  try {
    return await conversation.run();
  } finally {
    connection.destroy('the sender ended the connection');
    await connection.closed;
    await source.close();
  }
}
