/** Every time-out and bound of a data connection; tests shorten them. docs/transfer-protocol.md says why each. */

const MIB = 1024 * 1024;

/** The most data bytes of one DATA frame, and the most map bytes of one MAP frame. */
export const MAX_PIECE_BYTES = MIB;
/** What a receiver must take in one DATA frame: less would let it cost the sender a frame for each byte. */
export const MIN_PIECE_BYTES = 4096;
/** The most payload of any frame that a sender may send after its hello: one record of a journal, with its head. */
export const MAX_SENDER_PAYLOAD_BYTES = MAX_PIECE_BYTES + 48;
/** The most payload of a hello, and of any frame of a receiver. */
export const MAX_CONTROL_PAYLOAD_BYTES = 4096;

/** The most bytes of frames that wait before large ones are allowed. */
export const HELLO_QUEUE_BYTES = 16 * 1024;

/** What both ends watch. */
export interface ConnectionLimits {
  /** A keep-alive frame goes out this often. */
  readonly keepAliveMs: number;
  /** A peer that brings neither a whole frame nor 64 KiB within this time is gone. */
  readonly idleMs: number;
  /** Reading stops while frames of this many bytes wait; before the hello, while {@link HELLO_QUEUE_BYTES} do. */
  readonly queuedBytes: number;
}

export interface ReceiverLimits extends ConnectionLimits {
  /** Connections whose hello was admitted; more are refused, and come back later. */
  readonly connections: number;
  /** Connections in their handshake, or whose hello was not admitted yet: the oldest make room for newer ones. */
  readonly pendingConnections: number;
  /** The same of one address (of IPv6, of one /64). */
  readonly pendingPerAddress: number;
  /** Connections that one address may open each second, in bursts of as many; more are reset at once. */
  readonly newConnectionsPerSecond: number;
  /** From the TCP connection to the end of the TLS handshake. */
  readonly handshakeMs: number;
  /** From there to the whole hello. */
  readonly helloMs: number;
  /** Data is made durable and acknowledged each time this much has been written … */
  readonly flushBytes: number;
  /** … and when nothing came for this long … */
  readonly flushIdleMs: number;
  /** … and when this long has passed, so that on a slow line, too, little is lost and progress shows. */
  readonly flushMs: number;
}

export interface SenderLimits extends ConnectionLimits {
  /** From the first packet to the end of the TLS handshake. */
  readonly connectMs: number;
  /** Without a frame from the receiver for this long, the sender gives up with ReopenNeeded. */
  readonly unreachableMs: number;
  readonly backoffMinMs: number;
  readonly backoffMaxMs: number;
}

export const RECEIVER_LIMITS: ReceiverLimits = {
  keepAliveMs: 5_000,
  idleMs: 30_000,
  queuedBytes: 4 * MIB,
  connections: 256,
  pendingConnections: 64,
  pendingPerAddress: 32,
  newConnectionsPerSecond: 100,
  handshakeMs: 10_000,
  helloMs: 10_000,
  flushBytes: 64 * MIB,
  flushIdleMs: 200,
  flushMs: 1_000,
};

export const SENDER_LIMITS: SenderLimits = {
  keepAliveMs: 5_000,
  idleMs: 30_000,
  queuedBytes: MIB,
  connectMs: 10_000,
  unreachableMs: 120_000,
  backoffMinMs: 200,
  backoffMaxMs: 5_000,
};
