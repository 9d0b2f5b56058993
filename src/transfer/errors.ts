/** What can go wrong on a data connection. docs/transfer-protocol.md lists every code. */
import { isNonRetryable } from '../contract/failures.ts';
import {
  OffsiteError,
  PlanBrokenError,
  ReopenNeededError,
  ScheduleDeletedError,
  SupersededError,
} from '../domain/errors.ts';

export type ProtocolCode =
  /** A header announces more than the connection's state allows. */
  | 'FrameTooLarge'
  /** A header's or a payload's crc32 is not that of its bytes. */
  | 'BadChecksum'
  /** A frame type that this version does not know. */
  | 'UnknownFrame'
  /** A known frame at a moment at which it may not come. */
  | 'FrameOutOfOrder'
  /** A payload too short, or with a value that cannot be. */
  | 'BadFrame'
  /** A map or data frame that does not go on where the last one ended, or goes beyond the end. */
  | 'BadPosition'
  /** The extent map's bytes are not those that the offer's digest names. */
  | 'MapDigestMismatch'
  /** The two ends computed different digests of the whole content. */
  | 'DigestMismatch';

const PROTOCOL_HINT =
  'The transfer is tried again by itself; if it stays, compare the versions of both sites.';

/** The peer broke the protocol, or its bytes were damaged on the way. */
export class ProtocolError extends OffsiteError {
  constructor(code: ProtocolCode, message: string) {
    super(code, message, PROTOCOL_HINT);
  }
}

/** The connection ended, or the peer fell silent, without a last word. A sender connects again by itself. */
export class ConnectionLostError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super('ConnectionLost', message, 'The transfer connects again by itself.', options);
  }
}

/** The node at the other end is not the one whose certificate was pinned. */
export class FingerprintMismatchError extends OffsiteError {
  constructor(message: string) {
    super(
      'PeerFingerprintMismatch',
      message,
      'Check that the address is the node that you mean, and its identity file.',
    );
  }
}

/** The node's identity file cannot be used. */
export class IdentityError extends OffsiteError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('IdentityInvalid', message, hint, options);
  }
}

/** The receiver turned the sender away; thrown inside the receiver, sent as REFUSED. */
export class RefusedError extends OffsiteError {
  constructor(
    code: 'NotAdmitted' | 'StaleAttempt' | 'UnsupportedVersion' | 'TooManyConnections',
    message: string,
  ) {
    super(code, message);
  }
}

/** A last word as it travels: a receiver's REFUSED, a sender's CLOSE. */
export interface Refusal {
  readonly code: string;
  readonly text: string;
  readonly retryable: boolean;
}

/** The sender said that it goes away, and why. */
export class SenderLeftError extends OffsiteError {
  constructor({ code, text }: Refusal) {
    super('SenderLeft', `the sender stopped: ${text} (${code})`);
  }
}

const CODE = /^[A-Za-z][A-Za-z0-9_]{0,63}$/;

/** Says an error in a refusal's words: an own code where it has one, as `ENOSPC` or `PlanBroken`. */
export function refusalOf(error: unknown): Refusal {
  const text = error instanceof Error ? error.message : String(error);
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code !== 'string' || !CODE.test(code)) return { code: 'ReceiverFailed', text, retryable: true };
  return { code, text, retryable: !isNonRetryable(code) };
}

/** Turns a receiver's refusal into what the sender throws. Only four codes may end a disk's attempt for good. */
export function errorOfRefusal({ code, text }: Refusal): OffsiteError {
  switch (code) {
    case 'Superseded':
      return new SupersededError(text);
    case 'ReopenNeeded':
      return new ReopenNeededError(text);
    case 'PlanBroken':
      return new PlanBrokenError(text);
    case 'ScheduleDeleted':
      return new ScheduleDeletedError(text);
  }
  const known = CODE.test(code) && !isNonRetryable(code);
  return new OffsiteError(
    known ? code : 'ReceiverFailed',
    `the receiver refused: ${text}`,
    'It is tried again by itself once the cause at the replica site is mended.',
  );
}
