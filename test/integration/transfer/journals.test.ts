import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { OffsiteError, PlanBrokenError, SupersededError } from '../../../src/domain/errors.ts';
import { type FrameName, HEADER_BYTES } from '../../../src/transfer/frames.ts';
import {
  encodeJournal,
  encodeJournalAck,
  encodeJournalStart,
  encodeRecords,
  journalDigest,
} from '../../../src/transfer/journal-messages.ts';
import { encodeContentWord, encodeWelcome } from '../../../src/transfer/messages.ts';
import type { TransferRecord } from '../../../src/transfer/ports.ts';
import { createThrottle } from '../../../src/transfer/throttle.ts';
import { bendFrames, encodeBent } from '../../hostile/frames/bend.ts';
import { CONVERSATIONS } from '../../hostile/frames/conversations.ts';
import { Random } from '../../hostile/random.ts';
import { KIB, MIB, makeIdentities, Rig, type TestIdentities, until } from './fakes.ts';
import { IDENTITY, MemoryJournalSource, recordOf, recordsOf, storedBytesOf } from './journal-fakes.ts';
import { RawClient } from './raw-client.ts';

let ids: TestIdentities;
let rig: Rig;
let disk: string;
beforeAll(async () => {
  ids = await makeIdentities();
});
beforeEach(async () => {
  rig = await Rig.start(ids);
  disk = rig.openSession();
});
afterEach(() => rig.stop());

describe('a journal on its way from A to B', () => {
  test('arrives record by record, and both ends agree on where it ended', async () => {
    const source = new MemoryJournalSource(recordsOf(500));
    const sent = await rig.sendJournal(disk, source).done;
    const journal = rig.directory.journal(disk);
    expect(journal.records).toEqual(source.records);
    expect(journal.committed).toBe(500);
    expect(sent).toMatchObject({
      durableBytes: storedBytesOf(source.records),
      totalBytes: storedBytesOf(source.records),
      connections: 1,
    });
    const end = { nextIndex: 500, sequence: recordOf(499).sequence };
    expect(sent.contentDigest).toBe(Buffer.from(journalDigest(IDENTITY, end)).toString('hex'));
    expect(rig.directory.sessions.get(disk)).toMatchObject({
      state: 'received',
      received: { totalBytes: storedBytesOf(source.records), contentDigest: sent.contentDigest },
    });
    expect(source.isClosed).toBe(true);
    expect(journal.openSinks).toBe(0);
    expect(rig.warnings).toEqual([]);
  });

  test('is told to be all there while it rests, and up to a record while it does not', async () => {
    const source = new MemoryJournalSource(recordsOf(10), false);
    const told: number[] = [];
    const sending = rig.sendJournal(disk, source, {
      onProgress: ({ caughtUpAtMs }) => void told.push(caughtUpAtMs ?? Number.NaN),
      nowMs: () => 5_000_000,
    });
    const ofRecord = recordOf(9).timeUs / 1000;
    await expect.poll(() => told.at(-1), { timeout: 10_000 }).toBe(Math.max(ofRecord, 5_000_000));
    expect(told.filter(time => !Number.isNaN(time))[0]).toBe(ofRecord);
    sending.stop(new Error('enough'));
    await expect(sending.done).rejects.toThrow('enough');
  });

  test('is committed with each checkpoint while it is followed, and between them soon', async () => {
    const source = new MemoryJournalSource([], false);
    const sending = rig.sendJournal(disk, source);
    const journal = rig.directory.journal(disk);
    source.records.push(...recordsOf(10));
    await until(() => journal.committed === 10);
    source.records.push(...recordsOf(5, 10));
    await until(() => journal.committed === 15);
    await until(() => sending.progress.at(-1)?.durableBytes === storedBytesOf(source.records));
    expect(rig.receiver.progress(disk)).toMatchObject({ durableBytes: storedBytesOf(source.records) });
    source.records.push(...recordsOf(5, 15));
    source.isOver = true;
    await sending.done;
    expect(journal.records).toEqual(source.records);
    expect(source.given).toBe(20);
  });

  test('an append goes on while a commit runs, and the next commit has all of them', async () => {
    const gate = Promise.withResolvers<void>();
    const journal = rig.directory.journal(disk);
    let commits = 0;
    journal.onCommit = () => {
      commits += 1;
      return commits === 1 ? gate.promise : undefined;
    };
    const source = new MemoryJournalSource(recordsOf(10), false);
    const sending = rig.sendJournal(disk, source);
    await until(() => commits === 1);
    for (let from = 10; from < 100; from += 10) source.records.push(...recordsOf(10, from));
    await until(() => journal.records.length === 100);
    expect(journal.committed).toBe(0);
    gate.resolve();
    source.isOver = true;
    await sending.done;
    expect(journal.commits[0]).toBeLessThanOrEqual(10);
    expect(journal.commits[1]).toBe(100);
  });

  test('payloads of the largest size and names of the longest travel whole', async () => {
    const [write, mark] = [recordOf(0), recordOf(9)];
    const name = Buffer.from('n'.repeat(255));
    const records: TransferRecord[] = [
      { ...write, length: MIB, payload: Buffer.alloc(MIB, 7) },
      { ...mark, index: 1, length: 255, payload: name },
    ];
    await rig.sendJournal(disk, new MemoryJournalSource(records)).done;
    expect(rig.directory.journal(disk).records).toEqual(records);
  });

  test('a window without a record ends at once', async () => {
    const sent = await rig.sendJournal(disk, new MemoryJournalSource()).done;
    expect(sent).toMatchObject({ bytesSent: 0, durableBytes: 0 });
    expect(rig.directory.sessions.get(disk)?.state).toBe('received');
  });

  test('the next window goes on where the last one ended', async () => {
    const journal = rig.directory.journal(disk);
    await rig.sendJournal(disk, new MemoryJournalSource(recordsOf(50))).done;
    const next = rig.openSession();
    rig.directory.journals.set(next, journal);
    const source = new MemoryJournalSource(recordsOf(80));
    const sent = await rig.sendJournal(next, source).done;
    expect(source.starts).toEqual([{ nextIndex: 50, sequence: recordOf(49).sequence }]);
    expect(source.given).toBe(30);
    expect(sent.durableBytes).toBe(storedBytesOf(source.records));
  });

  test('keeps to the rate limit', async () => {
    const source = new MemoryJournalSource(recordsOf(200, 0, 4 * KIB));
    const begun = performance.now();
    await rig.sendJournal(disk, source, { throttle: createThrottle(MIB) }).done;
    // A tenth of a second's worth is let through at once; at least half of the rest is waited for.
    const bytes = storedBytesOf(source.records);
    expect(performance.now() - begun).toBeGreaterThan((500 * (bytes - 0.1 * MIB)) / MIB);
  });

  test('B that is slow holds A up, and neither end collects what it cannot pass on', async () => {
    const gate = Promise.withResolvers<void>();
    const journal = rig.directory.journal(disk);
    journal.onAppend = () => gate.promise;
    const source = new MemoryJournalSource(recordsOf(1000, 0, 64 * KIB));
    const sending = rig.sendJournal(disk, source);
    let given = -1;
    while (given !== source.given || given === 0) {
      given = source.given;
      await new Promise(resolve => setTimeout(resolve, 300));
    }
    // Frames in flight at A, the sockets' buffers, and the queue at B: far less than the 58 MiB of all.
    expect(given * 64 * KIB).toBeLessThan(32 * MIB);
    gate.resolve();
    await sending.done;
    expect(journal.records.length).toBe(1000);
  });
});

describe('a journal whose connection breaks', () => {
  test('goes on at the first record that was not acknowledged, wherever it is cut', async () => {
    let cuts = 0;
    for (const at of [1, 900, 2_000, 5_000, 20_000, 60_000, 150_000, 290_000]) {
      const task = rig.openSession();
      const source = new MemoryJournalSource(recordsOf(600));
      rig.proxy.cutAfter(at);
      const before = rig.proxy.cuts;
      await rig.sendJournal(task, source).done;
      rig.proxy.cutAfter(null);
      cuts += rig.proxy.cuts - before;
      const journal = rig.directory.journal(task);
      expect(journal.records).toEqual(source.records);
      for (const [number, start] of source.starts.entries()) {
        expect(start.nextIndex).toBe(journal.starts[number + journal.starts.length - source.starts.length]);
      }
    }
    expect(cuts).toBeGreaterThan(5);
  });

  test('no record that was acknowledged is sent again', async () => {
    const source = new MemoryJournalSource([], false);
    const sending = rig.sendJournal(disk, source);
    const journal = rig.directory.journal(disk);
    for (let round = 0; round < 5; round += 1) {
      source.records.push(...recordsOf(20, round * 20));
      await until(() => sending.progress.at(-1)?.durableBytes === storedBytesOf(source.records));
      rig.proxy.cutNow();
      await until(() => source.starts.length === round + 2);
    }
    source.isOver = true;
    await sending.done;
    expect(source.given).toBe(100);
    expect(journal.appended).toBe(100);
    expect(source.starts.map(({ nextIndex }) => nextIndex)).toEqual([0, 20, 40, 60, 80, 100]);
  });

  test('what came before the connection was lost is committed first', async () => {
    const source = new MemoryJournalSource(recordsOf(5), false);
    const journal = rig.directory.journal(disk);
    rig.sendJournal(disk, source);
    await until(() => journal.records.length === 5);
    rig.proxy.refuse(true);
    rig.proxy.cutNow();
    await until(() => journal.openSinks === 0);
    expect(journal.committed).toBe(5);
  });

  test('a receiver that was restarted goes on, too', async () => {
    const source = new MemoryJournalSource(recordsOf(100), false);
    const sending = rig.sendJournal(disk, source);
    await until(() => rig.directory.journal(disk).committed === 100);
    await rig.restartReceiver();
    await until(() => source.starts.length === 2);
    source.records.push(...recordsOf(100, 100));
    source.isOver = true;
    await sending.done;
    expect(rig.directory.journal(disk).records).toEqual(source.records);
    expect(source.given).toBe(200);
  });

  test('a line that stalls is given up by both ends', async () => {
    const source = new MemoryJournalSource(recordsOf(40), false);
    const sending = rig.sendJournal(disk, source);
    await until(() => rig.directory.journal(disk).committed === 40);
    rig.proxy.pause();
    await until(() =>
      sending.progress.some(({ note }) => note?.startsWith('waits for the receiver') === true),
    );
    rig.proxy.cutNow();
    rig.proxy.resume();
    source.isOver = true;
    await sending.done;
    expect(source.given).toBe(40);
  });

  test('keep-alives hold an idle journal open', async () => {
    const source = new MemoryJournalSource(recordsOf(10), false);
    const sending = rig.sendJournal(disk, source);
    await until(() => rig.directory.journal(disk).committed === 10);
    await new Promise(resolve => setTimeout(resolve, 2_500));
    source.isOver = true;
    expect((await sending.done).connections).toBe(1);
  });
});

describe('the ends of a journal', () => {
  test('a damaged journal ends the sender, when B has all that lies before', async () => {
    const source = new MemoryJournalSource(recordsOf(55));
    source.fault = new PlanBrokenError('the journal is damaged from record 55 to record 60');
    const journal = rig.directory.journal(disk);
    journal.onCommit = () => new Promise(resolve => setTimeout(resolve, 50));
    await expect(rig.sendJournal(disk, source).done).rejects.toMatchObject({ code: 'PlanBroken' });
    expect(journal.committed).toBe(55);
    expect(source.isClosed).toBe(true);
  });

  test('a sender that is told to stop goes, and what came is kept', async () => {
    const source = new MemoryJournalSource(recordsOf(20), false);
    const sending = rig.sendJournal(disk, source);
    const journal = rig.directory.journal(disk);
    await until(() => journal.committed === 20);
    sending.stop(new SupersededError('enough'));
    await expect(sending.done).rejects.toThrow('enough');
    await until(() => journal.openSinks === 0);
    expect(source.isClosed).toBe(true);
  });

  test('a commit that fails ends the conversation with its words, also while nothing comes', async () => {
    const journal = rig.directory.journal(disk);
    journal.onCommit = () => Promise.reject(Object.assign(new Error('no space'), { code: 'ENOSPC' }));
    const source = new MemoryJournalSource(recordsOf(10), false);
    await expect(rig.sendJournal(disk, source).done).rejects.toMatchObject({ code: 'ENOSPC' });
    await until(() => journal.openSinks === 0);
    expect(journal.committed).toBe(0);
  });

  test('a journal that another connection takes over is let go at once', async () => {
    const source = new MemoryJournalSource(recordsOf(10), false);
    const sending = rig.sendJournal(disk, source);
    const journal = rig.directory.journal(disk);
    await until(() => journal.committed === 10);
    journal.takeOver(new SupersededError('another connection goes on with this journal'));
    await expect(sending.done).rejects.toMatchObject({ code: 'Superseded' });
    expect(journal.openSinks).toBe(0);
  });

  test('a cut of the session ends it, after the commit that runs', async () => {
    const gate = Promise.withResolvers<void>();
    const journal = rig.directory.journal(disk);
    let isCommitting = false;
    journal.onCommit = () => {
      isCommitting = true;
      return gate.promise;
    };
    const source = new MemoryJournalSource(recordsOf(10), false);
    const sending = rig.sendJournal(disk, source);
    await until(() => isCommitting);
    const session = rig.directory.sessions.get(disk);
    if (session) rig.directory.sessions.set(disk, { ...session, state: 'closed' });
    let isCut = false;
    const cut = rig.receiver.cut(disk, null).then(() => {
      isCut = true;
    });
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(isCut).toBe(false);
    gate.resolve();
    await cut;
    expect(journal.openSinks).toBe(0);
    await expect(sending.done).rejects.toMatchObject({ code: 'ReopenNeeded' });
  });
});

describe('a sender that breaks the protocol', () => {
  const say = async (...frames: readonly Buffer[]): Promise<RawClient> => {
    const client = await RawClient.connect(rig.receiver.port, ids.a);
    client.hello(disk).say(encodeJournal(IDENTITY), ...frames);
    return client;
  };
  const stored = () => rig.directory.journal(disk).records.length;

  test.each<[string, string, (records: TransferRecord[]) => TransferRecord[]]>([
    ['begins behind the record that is due', 'BadPosition', records => records.slice(1)],
    [
      'sends a record twice',
      'BadPosition',
      ([first, ...rest]) => [first, first, ...rest] as TransferRecord[],
    ],
    [
      'lets the sequence go back',
      'BadPosition',
      records => records.map(record => ({ ...record, sequence: IDENTITY.start.sequence })),
    ],
    [
      'lets the time go back',
      'BadPosition',
      records => records.map(record => ({ ...record, timeUs: IDENTITY.start.timeUs - 1 })),
    ],
    [
      'writes beyond the end of the disk',
      'BadPosition',
      records => records.map(record => ({ ...record, offset: IDENTITY.virtualSizeBytes - 1 })),
    ],
    [
      'discards more than a number can say',
      'BadPosition',
      records =>
        records.map(record => ({
          ...record,
          type: 'discard' as const,
          offset: 2 ** 53 - 1,
          length: 2 ** 53 - 1,
          payload: Buffer.alloc(0),
        })),
    ],
    [
      'names a checkpoint with 10 MB',
      'BadFrame',
      records =>
        records.map(record => ({
          ...record,
          type: 'checkpoint' as const,
          offset: 0,
          length: 10_000_000,
          payload: Buffer.alloc(0),
        })),
    ],
    [
      'lies about a length',
      'BadFrame',
      records => records.map(record => ({ ...record, length: record.length + 100_000 })),
    ],
  ])('%s is refused, and nothing of the frame is written', async (_, code, bend) => {
    const client = await say(encodeRecords(bend(recordsOf(3))));
    expect(await client.isRefused()).toBe(code);
    expect(stored()).toBe(0);
    expect(rig.directory.journal(disk).openSinks).toBe(0);
  });

  test('numbers that a frame counts beyond 2^53 are refused', async () => {
    const client = await say(
      encodeRecords(recordsOf(3).map(record => ({ ...record, index: 2 ** 53 - 2 + record.index }))),
    );
    expect(['BadFrame', 'BadPosition']).toContain(await client.isRefused());
  });

  test('an end at another record, and one of another journal, are refused', async () => {
    const end = { nextIndex: 3, sequence: recordOf(2).sequence };
    const early = await say(
      encodeRecords(recordsOf(3)),
      encodeContentWord('final', { contentDigest: journalDigest(IDENTITY, end), dataBytes: 2 }),
    );
    expect(await early.isRefused()).toBe('BadPosition');
    const client = await RawClient.connect(rig.receiver.port, ids.a);
    client
      .hello(disk, { attempt: 2 })
      .say(encodeJournal(IDENTITY))
      .say(encodeContentWord('final', { contentDigest: Buffer.alloc(16), dataBytes: 3 }));
    expect(await client.isRefused()).toBe('DigestMismatch');
    expect(rig.directory.sessions.get(disk)?.state).toBe('open');
  });

  test('data of a layer in a journal, and records in place of it, are refused', async () => {
    const client = await say(encodeJournal(IDENTITY));
    expect(await client.isRefused()).toBe('FrameOutOfOrder');
    const other = await RawClient.connect(rig.receiver.port, ids.a);
    other.hello(disk, { attempt: 2 }).say(encodeRecords(recordsOf(3)));
    expect(await other.isRefused()).toBe('FrameOutOfOrder');
  });

  test('a journal in version 1 is refused', async () => {
    const client = await RawClient.connect(rig.receiver.port, ids.a);
    client.hello(disk, { version: 1 }).say(encodeJournal(IDENTITY));
    expect((await client.hears('welcome')).payload.readUInt16LE(0)).toBe(1);
    expect(await client.isRefused()).toBe('FrameOutOfOrder');
  });
});

describe('a receiver that breaks the protocol', () => {
  test.each<[string, string, readonly Buffer[]]>([
    ['acknowledges what was not sent', 'BadPosition', [encodeJournalAck({ nextIndex: 99, recordBytes: 1 })]],
    [
      'says that it has all too early',
      'DigestMismatch',
      [encodeContentWord('received', { contentDigest: Buffer.alloc(16), dataBytes: 1 })],
    ],
  ])('%s: the sender ends with %s', async (_, code, answers) => {
    const server = await rig.impostor([
      encodeWelcome({ version: 2, maxPieceBytes: MIB, helloAtMs: 1, sentAtMs: 1 }),
      encodeJournalStart({ nextIndex: 0, recordBytes: 0, sequence: IDENTITY.start.sequence }),
      ...answers,
    ]);
    const source = new MemoryJournalSource(recordsOf(10), false);
    const sending = rig.sendJournal(disk, source, { offer: server.offer });
    await expect(sending.done).rejects.toMatchObject({ code });
    expect(source.isClosed).toBe(true);
    await server.close();
  });

  test('one of version 1 is told from a broken one', async () => {
    const server = await rig.impostor([
      encodeWelcome({ version: 1, maxPieceBytes: MIB, helloAtMs: 1, sentAtMs: 1 }),
    ]);
    const sending = rig.sendJournal(disk, new MemoryJournalSource(recordsOf(10)), { offer: server.offer });
    await expect(sending.done).rejects.toMatchObject({
      code: 'UnsupportedVersion',
      message: expect.stringContaining('speaks version 1'),
      hint: expect.stringContaining('Upgrade the replica site'),
    });
    await server.close();
  });
});

describe('a receiver whose words are bent', () => {
  const SEED = 20_261;
  const said = (name: FrameName, frame: Buffer) => ({ name, payload: frame.subarray(HEADER_BYTES) });
  const end = { nextIndex: 30, sequence: recordOf(29).sequence };
  const word = { contentDigest: journalDigest(IDENTITY, end), dataBytes: storedBytesOf(recordsOf(30)) };
  const ack = (nextIndex: number) =>
    said('ack', encodeJournalAck({ nextIndex, recordBytes: storedBytesOf(recordsOf(nextIndex)) }));
  const { sequence } = IDENTITY.start;
  const frames = [
    said('welcome', encodeWelcome({ version: 2, maxPieceBytes: MIB, helloAtMs: 1, sentAtMs: 1 })),
    said('start', encodeJournalStart({ nextIndex: 0, recordBytes: 0, sequence })),
    ...[ack(10), ack(20), ack(30)],
    said('received', encodeContentWord('received', word)),
  ];

  test('ends the sender with a typed error, or is given up: it never sends beyond what it has', async () => {
    const [conversation] = CONVERSATIONS;
    if (conversation === undefined) throw new Error('no conversation');
    const outcomes = new Map<string, number>();
    for (let number = 0; number < 250; number += 1) {
      const random = new Random(SEED, number);
      const bent = encodeBent(random, bendFrames(random, { ...conversation, frames }));
      const server = await rig.impostor([bent.bytes], true);
      const source = new MemoryJournalSource(recordsOf(30));
      const limits = { idleMs: 150, connectMs: 5_000, unreachableMs: 60_000 };
      const sending = rig.sendJournal(disk, source, { offer: server.offer, limits });
      // Words without an end are said again on each connection.
      const stopping = until(() => server.connections() > 2).then(() => sending.stop(new Error('enough')));
      const outcome = await sending.done.then(
        () => 'accepted',
        error => {
          if (error instanceof OffsiteError) return error.code;
          expect(error, `case ${number}`).toMatchObject({ message: 'enough' });
          return 'given up';
        },
      );
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      expect(source.starts.length === 0 || source.isClosed, `case ${number}`).toBe(true);
      if (outcome !== 'given up') server.forget();
      await stopping;
      await server.close();
    }
    expect(outcomes.size).toBeGreaterThan(4);
    expect(outcomes.get('given up')).toBeGreaterThan(5);
  }, 120_000);
});
