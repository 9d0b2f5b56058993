import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ProtocolError } from '../../../src/transfer/errors.ts';
import { HEADER_BYTES } from '../../../src/transfer/frames.ts';
import {
  decodeJournal,
  decodeJournalAck,
  decodeJournalStart,
  decodeRecords,
  encodeJournal,
  encodeJournalAck,
  encodeJournalStart,
  encodeRecords,
  journalDigest,
} from '../../../src/transfer/journal-messages.ts';
import type { TransferRecord } from '../../../src/transfer/ports.ts';

const number = fc.maxSafeNat();
const ident = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/);
const payloadOf = (frame: Buffer): Buffer => Buffer.from(frame.subarray(HEADER_BYTES));
const place = { sequence: number, timeUs: number, offset: number };
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map(it => Buffer.from(it));
const none = fc.constant(Buffer.alloc(0));
const record = fc.oneof(
  fc.record({ ...place, type: fc.constant('write' as const), payload: bytes(3_000) }),
  fc.record({ ...place, type: fc.constant('checkpoint' as const), payload: bytes(255) }),
  fc.record({
    ...place,
    type: fc.constantFrom('zero' as const, 'discard' as const),
    payload: none,
    length: number,
  }),
);
const records = fc
  .tuple(fc.nat(2 ** 40), fc.array(record, { minLength: 1, maxLength: 20 }))
  .map(([first, some]): TransferRecord[] =>
    some.map((it, at) => ({
      ...it,
      index: first + at,
      length: 'length' in it ? it.length : it.payload.length,
    })),
  );

test('records and all that is said of a journal are read as they were written', () => {
  const identity = fc.record({
    ...{ epochUuid: fc.uuid(), host: ident, disk: ident, virtualSizeBytes: number },
    start: fc.record({ sequence: number, timeUs: number }),
  });
  const start = fc.record({ nextIndex: number, recordBytes: number, sequence: number });
  fc.assert(fc.property(records, it => void expect(decodeRecords(payloadOf(encodeRecords(it)))).toEqual(it)));
  fc.assert(
    fc.property(identity, it => void expect(decodeJournal(payloadOf(encodeJournal(it)))).toEqual(it)),
  );
  fc.assert(
    fc.property(start, it => {
      expect(decodeJournalStart(payloadOf(encodeJournalStart(it)))).toEqual(it);
      const { nextIndex, recordBytes } = it;
      expect(decodeJournalAck(payloadOf(encodeJournalAck(it)))).toEqual({ nextIndex, recordBytes });
    }),
  );
});

test('records that were bent or cut give a typed error, or records within the format', () => {
  const bend = fc.array(fc.record({ at: fc.nat(), to: fc.nat(255) }), { maxLength: 4 });
  fc.assert(
    fc.property(records, bend, fc.double({ min: 0, max: 1, noNaN: true }), (sound, bends, keep) => {
      const payload = payloadOf(encodeRecords(sound));
      for (const { at, to } of bends) payload[at % payload.length] = to;
      const cut = payload.subarray(0, Math.ceil(payload.length * keep));
      try {
        for (const { type, index, length, payload: own } of decodeRecords(cut)) {
          expect(Number.isSafeInteger(index)).toBe(true);
          expect(own.length).toBe(type === 'write' || type === 'checkpoint' ? length : 0);
          expect(own.length).toBeLessThanOrEqual(type === 'checkpoint' ? 255 : 2 ** 20);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError);
        expect(error).toMatchObject({ code: 'BadFrame' });
      }
    }),
    { numRuns: 2_000 },
  );
});

test('noise gives a typed error or a value, never another error', () => {
  const decoders = [decodeRecords, decodeJournal, decodeJournalStart, decodeJournalAck];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(...decoders), (noise, decoder) => {
      try {
        decoder(Buffer.from(noise));
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError);
      }
    }),
    { numRuns: 2_000 },
  );
});

/** These bytes are the contract between two versions: docs/transfer-protocol.md. */
test('a journal and its records on the wire', () => {
  const shared = { sequence: 5, timeUs: 6 };
  const journal = encodeJournal({
    ...{ epochUuid: '00112233-4455-6677-8899-aabbccddeeff', host: 'web-01', disk: 'vda' },
    ...{ virtualSizeBytes: 1 << 30, start: shared },
  });
  expect(journal.toString('hex')).toMatchInlineSnapshot(
    `"350000001100000044a23b29fe87c4f700112233445566778899aabbccddeeff00000040000000000500000000000000060000000000000006007765622d30310300766461"`,
  );
  const frame = encodeRecords([
    { type: 'write', index: 7, ...shared, offset: 4096, length: 3, payload: Buffer.from('abc') },
    { type: 'discard', index: 8, ...shared, sequence: 8, offset: 0, length: 512, payload: Buffer.alloc(0) },
  ]);
  expect(frame.toString('hex')).toMatchInlineSnapshot(
    `"5b0000001200000038fa1161ad5a02ec07000000000000000100000000000000050000000000000006000000000000000010000000000000030000000000000061626303000000000000000800000000000000060000000000000000000000000000000002000000000000"`,
  );
  const end = { nextIndex: 9, sequence: 8 };
  const epochUuid = '00112233-4455-6677-8899-aabbccddeeff';
  expect(Buffer.from(journalDigest({ epochUuid, disk: 'vda' }, end)).toString('hex')).toMatchInlineSnapshot(
    `"c8cc0c6c62aa7903b6c41a760ef1fddd"`,
  );
});
