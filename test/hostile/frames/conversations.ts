/** What a sound sender says, in small: the conversations that are bent. */
import { ContentDigester, mapDigest } from '../../../src/domain/content-digest.ts';
import { type ExtentKind, type ExtentMap, ExtentMapBuilder } from '../../../src/domain/extent-map.ts';
import { createXxh128 } from '../../../src/lib/digest.ts';
import { type FrameName, HEADER_BYTES } from '../../../src/transfer/frames.ts';
import {
  encodeJournal,
  encodeJournalAck,
  encodeJournalStart,
  encodeRecords,
  journalDigest,
} from '../../../src/transfer/journal-messages.ts';
import {
  encodeCompare,
  encodeCompared,
  encodeContentWord,
  encodeHashes,
  encodeHello,
  encodeKeepAlive,
  encodeLastWord,
  encodeMapOffer,
  encodeMapWanted,
  encodePiece,
  encodePosition,
  encodeWelcome,
  type Hello,
  PROTOCOL_VERSION,
} from '../../../src/transfer/messages.ts';
import type { JournalIdentity, TransferRecord } from '../../../src/transfer/ports.ts';

export interface Said {
  readonly name: FrameName;
  readonly payload: Buffer;
}

export interface Conversation {
  readonly map: ExtentMap;
  readonly hello: Hello;
  readonly frames: readonly Said[];
}

export const DISK_TASK = '0190a0b0-1111-4222-8333-444455556666';
export const EPOCH = { generation: 3, plan: 2, openCount: 1 };

const HELLO: Hello = {
  version: PROTOCOL_VERSION,
  diskTaskUuid: DISK_TASK,
  epoch: EPOCH,
  attempt: 7,
  sentAtMs: 1_700_000_000_000,
};

const said = (name: FrameName, frame: Buffer): Said => ({ name, payload: frame.subarray(HEADER_BYTES) });

export function makeMap(
  clusterSizeBytes: number,
  kinds: readonly ExtentKind[],
  tailBytes: number,
): ExtentMap {
  const virtualSizeBytes = clusterSizeBytes * kinds.length + tailBytes;
  const builder = new ExtentMapBuilder({ virtualSizeBytes, clusterSizeBytes });
  for (const kind of kinds) builder.add(kind, clusterSizeBytes);
  if (tailBytes > 0) builder.add('data', tailBytes);
  return builder.build();
}

const KINDS: readonly ExtentKind[] = ['data', 'hole', 'zero'];
export const mixed = (count: number): ExtentKind[] =>
  Array.from({ length: count }, (_, index) => KINDS[(index * 7 + (index >> 3)) % 3] ?? 'data');

/** The token by which a comparison is named; the directory of the target knows it. */
export const TOKEN = Buffer.alloc(16, 0x7c);

/** @param isCompared the disk is compared first, and its map is of what differs */
function converse(
  map: ExtentMap,
  pieceBytes: number,
  mapPieceBytes: number,
  isCompared = false,
): Conversation {
  const hello = HELLO;
  const { encoded, virtualSizeBytes, clusterSizeBytes, dataBytes } = map;
  const digest = mapDigest(map, createXxh128);
  const content = Buffer.alloc(dataBytes);
  for (let at = 0; at < dataBytes; at += 1) content[at] = (at * 31) ^ (at >> 8);
  const digester = new ContentDigester(map, createXxh128);
  digester.update(content);
  const offer = {
    mapDigest: digest,
    virtualSizeBytes,
    clusterSizeBytes,
    encodedBytes: encoded.length,
    dataBytes,
    ...(isCompared && { compared: { token: TOKEN, guestDigest: Buffer.alloc(16, 0x3d) } }),
  };
  const frames = [said('hello', encodeHello(hello))];
  if (isCompared) frames.push(said('compare', encodeCompare(map)));
  frames.push(said('mapOffer', encodeMapOffer(offer)));
  for (let at = 0; at < encoded.length; at += mapPieceBytes) {
    frames.push(said('map', encodePiece('map', at, encoded.subarray(at, at + mapPieceBytes))));
  }
  frames.push(said('keepAlive', encodeKeepAlive()));
  for (let at = 0; at < dataBytes; at += pieceBytes) {
    frames.push(said('data', encodePiece('data', at, content.subarray(at, at + pieceBytes))));
  }
  frames.push(said('final', encodeContentWord('final', { contentDigest: digester.finish(), dataBytes })));
  return { map, hello, frames };
}

export const JOURNAL: JournalIdentity = {
  ...{ epochUuid: '0190a0b0-2222-4222-8333-444455556666', host: 'web-01', disk: 'vda' },
  virtualSizeBytes: 2 ** 20,
  start: { sequence: 40, timeUs: 1_700_000_000_000_000 },
};

/** The records of a journal: each sixth is a checkpoint, some with a name. */
function journal(count: number, recordsPerFrame: number, payloadBytes: number): Conversation {
  const records = Array.from({ length: count }, (_, index) => journalRecord(index, payloadBytes));
  const frames = [said('hello', encodeHello(HELLO)), said('journal', encodeJournal(JOURNAL))];
  for (let at = 0; at < count; at += recordsPerFrame) {
    frames.push(said('records', encodeRecords(records.slice(at, at + recordsPerFrame))));
    if (at === 0) frames.push(said('keepAlive', encodeKeepAlive()));
  }
  const end = { nextIndex: count, sequence: records.at(-1)?.sequence ?? JOURNAL.start.sequence };
  const word = { contentDigest: journalDigest(JOURNAL, end), dataBytes: count };
  frames.push(said('final', encodeContentWord('final', word)));
  return { map: makeMap(512, [], 0), hello: HELLO, frames };
}

function journalRecord(index: number, payloadBytes: number): TransferRecord {
  const type = (['write', 'zero', 'write', 'discard', 'write', 'checkpoint'] as const)[index % 6] ?? 'write';
  const name = index % 4 === 1 ? 'before the upgrade' : '';
  const payload =
    type === 'write' ? Buffer.alloc(payloadBytes, index) : Buffer.from(type === 'checkpoint' ? name : '');
  const isRange = type === 'zero' || type === 'discard';
  const place = {
    offset: type === 'checkpoint' ? 0 : index * 4096,
    length: isRange ? 4096 : payload.length,
  };
  const { sequence, timeUs } = JOURNAL.start;
  return { type, index, sequence: sequence + 1 + index, timeUs: timeUs + 10 * index, ...place, payload };
}

export const CONVERSATIONS: readonly Conversation[] = [
  converse(makeMap(512, mixed(9), 100), 700, 4),
  converse(makeMap(512, ['data'], 0), 512, 100),
  converse(makeMap(4096, mixed(12), 512), 4096, 3),
  converse(makeMap(65_536, ['hole', 'zero', 'hole'], 600), 256, 2),
  converse(makeMap(2 ** 21, ['hole', 'zero'], 0), 256, 1),
  converse(makeMap(512, [], 0), 1, 1),
  converse(makeMap(16_384, ['hole', 'zero', 'hole'], 700), 400, 3, true),
  journal(24, 5, 300),
  journal(6, 1, 4096),
];

const HASHES = Buffer.alloc(64, 0x11);

/** Other frames, of both ends, right in themselves. */
export const STRAYS: readonly Said[] = [
  ...CONVERSATIONS.flatMap(({ frames }) => frames.slice(0, 4)),
  said('keepAlive', encodeKeepAlive()),
  said('compare', encodeCompare({ virtualSizeBytes: 2 ** 30, clusterSizeBytes: 65_536 })),
  said('hashes', encodeHashes({ kind: 'hashed', offset: 0, clusters: 2, hashes: HASHES })),
  said('hashes', encodeHashes({ kind: 'zero', offset: 65_536, clusters: 9, hashes: Buffer.alloc(0) })),
  said('compared', encodeCompared({ token: TOKEN, text: 'the base' })),
  said('mapWanted', encodeMapWanted()),
  said('start', encodePosition('start', 0)),
  said('ack', encodePosition('ack', 512)),
  said('start', encodeJournalStart({ nextIndex: 3, recordBytes: 300, sequence: 43 })),
  said('ack', encodeJournalAck({ nextIndex: 3, recordBytes: 300 })),
  said('records', encodeRecords([journalRecord(0, 8), journalRecord(1, 8)])),
  said('welcome', encodeWelcome({ version: 1, maxPieceBytes: 65_536, helloAtMs: 1, sentAtMs: 2 })),
  said('refused', encodeLastWord('refused', { code: 'PlanBroken', text: 'x', retryable: false })),
  said('close', encodeLastWord('close', { code: 'Superseded', text: 'y'.repeat(900), retryable: true })),
  said('received', encodeContentWord('received', { contentDigest: Buffer.alloc(16), dataBytes: 0 })),
];
