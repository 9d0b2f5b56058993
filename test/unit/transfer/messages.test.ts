import { describe, expect, test } from 'vitest';
import { SupersededError } from '../../../src/domain/errors.ts';
import { errorOfRefusal, refusalOf } from '../../../src/transfer/errors.ts';
import {
  decodeLastWord,
  encodeContentWord,
  encodeHello,
  encodeKeepAlive,
  encodeLastWord,
  encodeMapOffer,
  encodePiece,
  encodePosition,
  encodeWelcome,
} from '../../../src/transfer/messages.ts';

const hex = (frame: Buffer): string => frame.toString('hex');
const digest = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');

/** These bytes are the contract between two versions: docs/transfer-protocol.md. */
describe('messages on the wire', () => {
  test('a hello', () => {
    const frame = encodeHello({
      version: 1,
      diskTaskUuid: '00112233-4455-6677-8899-aabbccddeeff',
      epoch: { generation: 3, plan: 2, openCount: 1 },
      attempt: 1_000_000,
      sentAtMs: 1_764_000_000_000,
    });
    expect(hex(frame)).toMatchInlineSnapshot(
      `"4000000001000000a7c21e477ff972f94f4653540100000000112233445566778899aabbccddeeff03000000000000000200000000000000010000000000000040420f000000000000e897b69a010000"`,
    );
  });

  test('a welcome', () => {
    const frame = encodeWelcome({ version: 1, maxPieceBytes: 1048576, helloAtMs: 256, sentAtMs: 257 });
    expect(hex(frame)).toMatchInlineSnapshot(
      `"1800000002000000dd2361df4e565bb7010000000000100000010000000000000101000000000000"`,
    );
  });

  test('a refusal', () => {
    expect(
      hex(encodeLastWord('refused', { code: 'ENOSPC', text: 'no space', retryable: true })),
    ).toMatchInlineSnapshot(`"1400000003000000909469845071f4e301000600454e4f53504308006e6f207370616365"`);
  });

  test('a map offer', () => {
    const shape = { virtualSizeBytes: 2 ** 40, clusterSizeBytes: 65536 };
    const frame = encodeMapOffer({ mapDigest: digest, ...shape, encodedBytes: 5, dataBytes: 4096 });
    expect(hex(frame)).toMatchInlineSnapshot(
      `"28000000040000004fbf4433c27f12c7000102030405060708090a0b0c0d0e0f000000000001000000000100050000000010000000000000"`,
    );
  });

  test('data, positions, digests and a keep-alive', () => {
    expect(hex(encodePiece('data', 2 ** 33, Buffer.from('abc')))).toMatchInlineSnapshot(
      `"0b0000000800000015387d3673f836c10000000002000000616263"`,
    );
    expect(hex(encodePosition('ack', 1048576))).toMatchInlineSnapshot(
      `"0800000009000000f2ddf4662133a91f0000100000000000"`,
    );
    expect(hex(encodeContentWord('final', { contentDigest: digest, dataBytes: 7 }))).toMatchInlineSnapshot(
      `"180000000a0000005fd6c106e954e9c1000102030405060708090a0b0c0d0e0f0700000000000000"`,
    );
    expect(hex(encodeKeepAlive())).toMatchInlineSnapshot(`"000000000c0000000000000020d37a2c"`);
  });
});

describe('refusals', () => {
  test('carry an error’s own code and words, and say whether trying again may help', () => {
    expect(refusalOf(new SupersededError('too old'))).toEqual({
      code: 'Superseded',
      text: 'too old',
      retryable: false,
    });
    const full = Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    expect(refusalOf(full)).toEqual({ code: 'ENOSPC', text: 'no space left', retryable: true });
    expect(refusalOf('odd')).toEqual({ code: 'ReceiverFailed', text: 'odd', retryable: true });
    expect(refusalOf({ code: 'no code: \n', message: 'x' })).toMatchObject({ code: 'ReceiverFailed' });
  });

  test.each(['Superseded', 'ReopenNeeded', 'PlanBroken', 'ScheduleDeleted'])(
    '%s ends the sender for good',
    code => {
      expect(errorOfRefusal({ code, text: 'why', retryable: false })).toMatchObject({ code, message: 'why' });
    },
  );

  test.each(['InvalidInput', 'ScheduleConflict', 'what is this', ''])('the code "%s" cannot end it', code => {
    expect(errorOfRefusal({ code, text: 'why', retryable: false }).code).toBe('ReceiverFailed');
  });

  test('are cut at a whole character', () => {
    const frame = encodeLastWord('refused', { code: 'X', text: `a${'é'.repeat(2000)}`, retryable: true });
    expect(decodeLastWord(frame.subarray(16)).text).toBe(`a${'é'.repeat(511)}`);
  });
});
