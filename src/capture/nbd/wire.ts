/** Numbers and messages of the NBD protocol. @see https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md */

const GREETING_MAGIC = Buffer.from('NBDMAGIC', 'latin1');
const OPTION_MAGIC = Buffer.from('IHAVEOPT', 'latin1');
const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9n;
const REQUEST_MAGIC = 0x2560_9513;
const REPLY_MAGIC = 0x6744_6698;

export const OPTION_HEADER_BYTES = 16;
export const REQUEST_BYTES = 28;
export const REPLY_BYTES = 16;

/** Both sides' word that they speak "fixed newstyle", and that the zeros after an export's size are left out. */
const FIXED_NEWSTYLE = 1;
const NO_ZEROES = 2;

export const OPTION = { exportName: 1, abort: 2, list: 3, info: 6, go: 7 } as const;
const OPTION_REPLY = { ack: 1, server: 2, info: 3 } as const;
export const OPTION_ERROR = {
  unsupported: 0x8000_0001,
  invalid: 0x8000_0003,
  unknown: 0x8000_0006,
  tooBig: 0x8000_0009,
} as const;

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;
/** The command flags that are understood; another one is EINVAL. */
export const COMMAND_FLAG = { fua: 1, noHole: 2 } as const;
/** The errors that a reply may carry. */
export const NBD_ERROR = { none: 0, io: 5, invalid: 22, noSpace: 28, shutdown: 108 } as const;

/** Has flags, flush, FUA, trim, write zeroes, many connections. */
const TRANSMISSION_FLAGS = 1 | (1 << 2) | (1 << 3) | (1 << 5) | (1 << 6) | (1 << 8);
export const MAX_REQUEST_BYTES = 32 * 1024 * 1024;
/** The protocol allows names of 4096 bytes; an INFO adds a few numbers. */
export const MAX_OPTION_BYTES = 8192;
const BLOCK_SIZES = { min: 1, preferred: 4096 } as const;

const INFO_EXPORT = 0;
const INFO_BLOCK_SIZE = 3;

export interface OptionHeader {
  readonly option: number;
  readonly lengthBytes: number;
}

export interface Request {
  readonly flags: number;
  readonly command: number;
  /** The client's own number, given back with the reply. */
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: number;
}

export function encodeGreeting(): Buffer {
  const flags = Buffer.alloc(2);
  flags.writeUInt16BE(FIXED_NEWSTYLE | NO_ZEROES, 0);
  return Buffer.concat([GREETING_MAGIC, OPTION_MAGIC, flags]);
}

/** @returns whether zeros are left out; null for flags that are not known or lack fixed newstyle */
export function decodeClientFlags(bytes: Buffer): { readonly noZeroes: boolean } | null {
  const flags = bytes.readUInt32BE(0);
  if ((flags & FIXED_NEWSTYLE) === 0 || (flags & ~(FIXED_NEWSTYLE | NO_ZEROES)) !== 0) return null;
  return { noZeroes: (flags & NO_ZEROES) !== 0 };
}

/** @returns null without the magic */
export function decodeOptionHeader(bytes: Buffer): OptionHeader | null {
  if (!bytes.subarray(0, 8).equals(OPTION_MAGIC)) return null;
  return { option: bytes.readUInt32BE(8), lengthBytes: bytes.readUInt32BE(12) };
}

/** The data of INFO and GO. @returns the export's name, null when lengths contradict each other */
export function decodeInfoRequest(data: Buffer): string | null {
  if (data.length < 6) return null;
  const nameBytes = data.readUInt32BE(0);
  if (nameBytes > data.length - 6) return null;
  const count = data.readUInt16BE(4 + nameBytes);
  if (data.length !== 6 + nameBytes + count * 2) return null;
  return data.toString('utf8', 4, 4 + nameBytes);
}

export const encodeAck = (option: number): Buffer => encodeOptionReply(option, OPTION_REPLY.ack);

export function encodeOptionError(option: number, error: number, words: string): Buffer {
  return encodeOptionReply(option, error, Buffer.from(words));
}

/** One export in the answer to LIST. */
export function encodeListed(option: number, name: string): Buffer {
  const bytes = Buffer.from(name);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length, 0);
  return encodeOptionReply(option, OPTION_REPLY.server, Buffer.concat([length, bytes]));
}

/** What INFO and GO tell of an export, before the acknowledgement. */
export function encodeExportInfo(option: number, sizeBytes: number): Buffer {
  const size = Buffer.alloc(12);
  size.writeUInt16BE(INFO_EXPORT, 0);
  size.writeBigUInt64BE(BigInt(sizeBytes), 2);
  size.writeUInt16BE(TRANSMISSION_FLAGS, 10);
  const blocks = Buffer.alloc(14);
  blocks.writeUInt16BE(INFO_BLOCK_SIZE, 0);
  blocks.writeUInt32BE(BLOCK_SIZES.min, 2);
  blocks.writeUInt32BE(BLOCK_SIZES.preferred, 6);
  blocks.writeUInt32BE(MAX_REQUEST_BYTES, 10);
  return Buffer.concat([
    encodeOptionReply(option, OPTION_REPLY.info, size),
    encodeOptionReply(option, OPTION_REPLY.info, blocks),
  ]);
}

/** The answer to EXPORT_NAME, after which requests begin. */
export function encodeOldExport(sizeBytes: number, noZeroes: boolean): Buffer {
  const bytes = Buffer.alloc(noZeroes ? 10 : 134);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), 0);
  bytes.writeUInt16BE(TRANSMISSION_FLAGS, 8);
  return bytes;
}

/** @returns null without the magic: the connection is out of step and must end */
export function decodeRequest(bytes: Buffer): Request | null {
  if (bytes.readUInt32BE(0) !== REQUEST_MAGIC) return null;
  return {
    flags: bytes.readUInt16BE(4),
    command: bytes.readUInt16BE(6),
    cookie: bytes.readBigUInt64BE(8),
    offset: bytes.readBigUInt64BE(16),
    length: bytes.readUInt32BE(24),
  };
}

export function encodeReply(cookie: bigint, error: number): Buffer {
  const bytes = Buffer.alloc(REPLY_BYTES);
  bytes.writeUInt32BE(REPLY_MAGIC, 0);
  bytes.writeUInt32BE(error, 4);
  bytes.writeBigUInt64BE(cookie, 8);
  return bytes;
}

function encodeOptionReply(option: number, type: number, data = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(20);
  head.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(type, 12);
  head.writeUInt32BE(data.length, 16);
  return Buffer.concat([head, data]);
}
