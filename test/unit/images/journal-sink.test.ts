import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readdir, readFile, stat, symlink, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openReplicaJournal } from '../../../src/images/cdp/journal-sink.ts';
import { segmentPath } from '../../../src/images/cdp/segment.ts';
import { type FaultPoint, setFaultInjector } from '../../../src/lib/fault-points.ts';
import {
  IDENTITY,
  openSink,
  readAll,
  receiveAll,
  recordOf,
  recordsOf,
  START,
  withFolder,
} from './journal-fixtures.ts';

const CHILD = join(import.meta.dirname, 'journal-crash-child.ts');
const TOTAL = 260;
const PAYLOAD = 16_384;
const asRead = (from: number, to: number, payloadBytes?: number) => recordsOf(from, to, payloadBytes);

afterEach(() => setFaultInjector(null));

describe('a journal at the replica', () => {
  it('has what was appended, over many segments, and a commit covers what was appended before it', () =>
    withFolder(async folder => {
      const { sink, catalog, directory } = await openSink(folder);
      expect(sink.end).toEqual({ nextIndex: 0, ...START });
      await sink.append(recordsOf(0, 100, PAYLOAD));
      const committing = sink.commit();
      await sink.append(recordsOf(100, 300, PAYLOAD));
      expect(await committing).toMatchObject({ nextIndex: 100 });
      expect(await catalog.read()).toMatchObject({ nextIndex: 100, checkpoint: recordOf(99).sequence });
      await sink.commit();
      expect(await catalog.read()).toMatchObject({ nextIndex: 300, checkpoint: recordOf(299).sequence });
      expect(catalog.markers).toEqual([49, 99, 149, 199, 249, 299].map(index => `before-${index}`));
      expect(sink.end).toMatchObject({ nextIndex: 300, sequence: recordOf(299).sequence });
      await sink.close();
      expect(await readAll(directory)).toEqual(asRead(0, 300, PAYLOAD));
      expect((await readdir(directory)).length).toBeGreaterThan(2);
    }));

  it('counts its bytes as the journal does, also when it is resumed', () =>
    withFolder(async folder => {
      const first = await openSink(folder);
      await first.sink.append(recordsOf(0, 15));
      await first.sink.commit();
      await first.sink.close();
      const second = await openSink(folder);
      expect(second.sink.recordBytes).toBe(15 * 72 + 14 * 4096);
      await second.sink.append(recordsOf(15, 20));
      expect(second.sink.recordBytes).toBe(20 * 72 + 18 * 4096);
      await second.sink.close();
    }));

  it('gives a name of any bytes to the catalog as words of at most 255 bytes, and keeps the bytes', () =>
    withFolder(async folder => {
      const { sink, catalog, directory } = await openSink(folder);
      const payload = Buffer.concat([Buffer.from([0, 0xff, 10]), Buffer.alloc(252, 0xfe)]);
      const record = { ...recordOf(9), index: 0, length: payload.length, payload };
      await sink.append([record]);
      await sink.commit();
      await sink.close();
      const [name = ''] = catalog.markers;
      expect(Buffer.byteLength(name)).toBeLessThanOrEqual(255);
      expect(name).toMatch(/^ \ufffd \ufffd+$/);
      expect((await readAll(directory))[0]?.payload.equals(payload)).toBe(true);
    }));

  it('refuses a gap, and records of another journal', () =>
    withFolder(async folder => {
      const { sink } = await openSink(folder);
      await sink.append(recordsOf(0, 5));
      await expect(sink.append(recordsOf(6, 7))).rejects.toThrow(RangeError);
      await sink.commit();
      await sink.close();
      const identity = { ...IDENTITY, disk: 'vdb' };
      await expect(openSink(folder, { identity })).rejects.toMatchObject({ code: 'JournalInvalid' });
    }));
});

describe('a journal that is resumed', () => {
  it('ends where the catalog says: what was appended beyond is gone, segments behind it too', () =>
    withFolder(async folder => {
      const first = await openSink(folder);
      await first.sink.append(recordsOf(0, 100, PAYLOAD));
      await first.sink.commit();
      await first.sink.append(recordsOf(100, 400, PAYLOAD));
      await first.sink.close();
      const second = await openSink(folder);
      expect(second.sink.end.nextIndex).toBe(100);
      expect(await readAll(second.directory)).toEqual(asRead(0, 100, PAYLOAD));
      // Other bytes this time: nothing of the first writer may show through.
      await second.sink.append(recordsOf(100, 300, 1000));
      await second.sink.commit();
      await second.sink.close();
      expect(await readAll(second.directory)).toEqual([
        ...asRead(0, 100, PAYLOAD),
        ...asRead(100, 300, 1000),
      ]);
    }));

  it('is another file: who wrote to it before writes where nobody reads', () =>
    withFolder(async folder => {
      const old = await openSink(folder);
      await old.sink.append(recordsOf(0, 60, PAYLOAD));
      await old.sink.commit();
      const path = segmentPath(old.directory, 0);
      const { ino } = await stat(path);
      const young = await openSink(folder);
      expect((await stat(path)).ino).not.toBe(ino);
      await young.sink.append(recordsOf(60, 80, 500));
      await young.sink.commit();
      await old.sink.append(recordsOf(60, 90, PAYLOAD));
      await young.sink.append(recordsOf(80, 300, 500));
      await young.sink.commit();
      await old.sink.close();
      expect(await readAll(young.directory)).toEqual([...asRead(0, 60, PAYLOAD), ...asRead(60, 300, 500)]);
      await young.sink.close();
    }));

  it('never writes to, or removes, a segment that another writer has made', () =>
    withFolder(async folder => {
      const old = await openSink(folder);
      await old.sink.append(recordsOf(0, 100, PAYLOAD));
      await old.sink.commit();
      const young = await openSink(folder);
      await young.sink.append(recordsOf(100, 300, PAYLOAD));
      await young.sink.commit();
      // The old one comes to the end of its segment, where the young one's next is.
      await expect(old.sink.append(recordsOf(100, 300, PAYLOAD))).rejects.toMatchObject({
        code: 'JournalWrite',
        cause: { code: 'EEXIST' },
      });
      await old.sink.close().catch(() => undefined);
      await young.sink.close();
      expect(await readAll(young.directory)).toEqual(asRead(0, 300, PAYLOAD));
    }));

  it('passes over a segment that a writer taken for dead has made meanwhile', () =>
    withFolder(async folder => {
      const old = await openSink(folder);
      await old.sink.append(recordsOf(0, 100, PAYLOAD));
      await old.sink.commit();
      const young = await openSink(folder);
      await old.sink.append(recordsOf(100, 160, PAYLOAD));
      // Its next segment has the name that the young one needs.
      await young.sink.append(recordsOf(100, 120, 500));
      await young.sink.commit();
      await expect(young.sink.append(recordsOf(120, 300, PAYLOAD))).rejects.toMatchObject({
        code: 'JournalWrite',
      });
      await young.sink.close().catch(() => undefined);
      const third = await openSink(folder);
      expect(third.sink.end.nextIndex).toBe(120);
      await third.sink.append(recordsOf(120, 300, PAYLOAD));
      await third.sink.commit();
      await third.sink.close();
      await old.sink.close();
      expect(await readAll(third.directory)).toEqual([
        ...asRead(0, 100, PAYLOAD),
        ...asRead(100, 120, 500),
        ...asRead(120, 300, PAYLOAD),
      ]);
    }));

  it('takes nothing away when another writer has gone on since the catalog was asked', () =>
    withFolder(async folder => {
      const first = await openSink(folder);
      await first.sink.append(recordsOf(0, 100, PAYLOAD));
      await first.sink.commit();
      const stale = openSink(folder, {
        assertCurrent: async () => {
          await first.sink.append(recordsOf(100, 300, PAYLOAD));
          await first.sink.commit();
          throw new Error('the journal has moved');
        },
      });
      await expect(stale).rejects.toThrow('has moved');
      await first.sink.close();
      expect(await readAll(first.directory)).toEqual(asRead(0, 300, PAYLOAD));
      expect((await readdir(first.directory)).every(name => /^\d{8}\.cdp$/.test(name))).toBe(true);
    }));

  it('says so when records that the catalog has are not there', () =>
    withFolder(async folder => {
      const { sink, directory } = await openSink(folder);
      await sink.append(recordsOf(0, 50, PAYLOAD));
      await sink.commit();
      await sink.close();
      await truncate(segmentPath(directory, 0), 300_000);
      await expect(openSink(folder)).rejects.toMatchObject({ code: 'JournalDamaged' });
      const earlier = await openSink(folder, { nextIndex: 1 });
      expect(earlier.sink.end.nextIndex).toBe(1);
      await earlier.sink.close();
    }));

  it('follows no link', () =>
    withFolder(async folder => {
      const victim = join(folder, 'victim');
      await mkdir(join(folder, 'journal.cdp'));
      await receiveAll(join(folder), 60);
      await cp(segmentPath(join(folder, 'journal.cdp'), 0), victim);
      const before = await readFile(victim);
      const other = join(folder, 'other.cdp');
      await mkdir(other);
      await symlink(victim, segmentPath(other, 0));
      const options = { directory: other, identity: IDENTITY, start: START, recordBytes: 0 };
      await expect(
        openReplicaJournal({
          ...options,
          nextIndex: 50,
          assertCurrent: async () => undefined,
          onDurable: async () => undefined,
        }),
      ).rejects.toMatchObject({ code: 'ReplicaFileInvalid' });
      expect((await readFile(victim)).equals(before)).toBe(true);
    }));
});

describe('a process that receives a journal', () => {
  async function dieAt(folder: string, step: number): Promise<void> {
    const child = spawn(process.execPath, [CHILD, folder, String(TOTAL), String(step)], { stdio: 'inherit' });
    const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    expect(signal, `the kill at step ${step}`).toBe('SIGKILL');
  }

  async function stepsOf(work: () => Promise<unknown>): Promise<string[]> {
    const steps: string[] = [];
    const reach = (point: FaultPoint, when: string): void => void steps.push(`${when} ${point}`);
    setFaultInjector({ reach: async (point, when) => reach(point, when), reachSync: reach });
    await work();
    setFaultInjector(null);
    return steps;
  }

  it(
    'loses nothing that the catalog has when it is killed at any step, of a first run or a resumed one',
    () =>
      withFolder(async parent => {
        const begun = join(parent, 'begun');
        await mkdir(begun);
        await receiveAll(begun, 70);
        // Some of it beyond the catalog, as after a crash, and a copy that was never put into place.
        const { sink, directory } = await openSink(begun);
        await sink.append(recordsOf(70, 200, PAYLOAD));
        await sink.close();
        await cp(segmentPath(directory, 0), `${segmentPath(directory, 0)}.0123456789abcdef`);
        const seen = new Set<string>();
        for (const isResumed of [false, true]) {
          const probe = join(parent, `probe-${isResumed}`);
          await (isResumed ? cp(begun, probe, { recursive: true }) : mkdir(probe));
          const steps = await stepsOf(() => receiveAll(probe, TOTAL));
          const first = new Map(steps.map((step, at) => [step, at] as const).reverse());
          const last = new Map(steps.map((step, at) => [step, at] as const));
          // Each kind of step once: of the adoption before and after, of the rest when it was done.
          const isChosen = (step: string): boolean =>
            step.startsWith('after') ? isResumed !== step.includes('journal.head') : step.includes('adopt');
          const chosen = [...(isResumed ? first : last)]
            .filter(([step]) => isChosen(step))
            .map(([, at]) => at);
          for (const step of steps) seen.add(step);
          const all = [...chosen].sort((left, right) => left - right).values();
          const crash = async (step: number): Promise<void> => {
            const folder = join(parent, `killed-${isResumed}-${step}`);
            await (isResumed ? cp(begun, folder, { recursive: true }) : mkdir(folder));
            await dieAt(folder, step);
            const text = `after a kill at step ${step}, ${steps[step]}`;
            const known = JSON.parse(await readFile(join(folder, 'catalog.json'), 'utf8').catch(() => '{}'));
            const kept = known.nextIndex ?? 0;
            if (kept > 0) {
              const there = await readAll(join(folder, 'journal.cdp'));
              expect(there.length, text).toBeGreaterThanOrEqual(kept);
            }
            const directory = await receiveAll(folder, TOTAL);
            expect(await readAll(directory), text).toEqual(asRead(0, TOTAL, PAYLOAD));
            const names = await readdir(directory);
            expect(
              names.filter(name => !/^\d{8}\.cdp$/.test(name)),
              text,
            ).toEqual([]);
          };
          await Promise.all(
            [1, 2].map(async () => {
              for (const step of all) await crash(step);
            }),
          );
        }
        for (const point of [
          'journal.adopt.unlinkStray',
          'journal.adopt.create',
          'journal.adopt.write',
          'journal.adopt.zero',
          'journal.adopt.fsync',
          'journal.adopt.rename',
          'journal.adopt.unlink',
          'journal.adopt.syncDirectory',
        ]) {
          expect([...seen]).toContain(`after ${point}`);
        }
      }),
    600_000,
  );

  it('removes the copy that it does not put into place', () =>
    withFolder(async folder => {
      await receiveAll(folder, 60);
      const steps = await stepsOf(async () => {
        const moved = () => Promise.reject(new Error('the journal has moved'));
        await expect(openSink(folder, { assertCurrent: moved })).rejects.toThrow('moved');
      });
      const point = 'journal.adopt.unlinkCopy';
      expect(steps).toContain(`after ${point}`);
      expect((await readAll(join(folder, 'journal.cdp'))).length).toBe(60);
    }));
});
