/** Whatever is appended comes back; whatever is damaged is a prefix or is refused, and never something else. */
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { OffsiteError } from '../../../src/domain/errors.ts';
import { JournalReader } from '../../../src/images/cdp/journal-reader.ts';
import { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import type { JournalRecord, NewRecord } from '../../../src/images/cdp/record.ts';
import { segmentPath } from '../../../src/images/cdp/segment.ts';
import { withMemoryDir } from '../../unit/images/replica-fixtures.ts';

const identity = {
  epoch: '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11',
  host: 'h',
  disk: 'd',
  virtualSizeBytes: 1 << 30,
};
const SEGMENT_BYTES = 2 * 1024 * 1024;

type Step = { readonly kind: 'append'; readonly record: NewRecord } | { readonly kind: 'sync' };

const steps = fc
  .array(
    fc.record({
      type: fc.constantFrom('write', 'write', 'zero', 'discard', 'checkpoint', 'sync'),
      gap: fc.integer({ min: 1, max: 1000 }),
      bytes: fc.oneof(
        { weight: 5, arbitrary: fc.integer({ min: 0, max: 200 }) },
        fc.integer({ min: 0, max: 300_000 }),
      ),
      offset: fc.integer({ min: 0, max: 2 ** 40 }),
      fill: fc.integer({ min: 0, max: 255 }),
    }),
    { minLength: 1, maxLength: 40 },
  )
  .map(parts => {
    let sequence = 7;
    let timeUs = 1_000_000;
    return parts.map(({ type, gap, bytes, offset, fill }): Step => {
      if (type === 'sync') return { kind: 'sync' };
      sequence += gap;
      timeUs += gap;
      const payload =
        type === 'write'
          ? Buffer.alloc(bytes, fill)
          : type === 'checkpoint'
            ? Buffer.from('m'.repeat(bytes % 256))
            : Buffer.alloc(0);
      const length = type === 'write' || type === 'checkpoint' ? payload.length : bytes;
      const record: NewRecord = {
        type: type as NewRecord['type'],
        sequence,
        timeUs,
        offset: type === 'checkpoint' ? 0 : offset,
        length,
        payload,
      };
      return { kind: 'append', record };
    });
  });

async function write(directory: string, list: readonly Step[]): Promise<number> {
  const options = { directory, identity, segmentBytes: SEGMENT_BYTES };
  const writer = await JournalWriter.create(options, { sequence: 7, timeUs: 1_000_000 });
  for (const step of list) await (step.kind === 'sync' ? writer.sync() : writer.append(step.record));
  await writer.close();
  return writer.durable.index;
}

async function read(directory: string, durableIndex: number): Promise<readonly JournalRecord[]> {
  const reader = await JournalReader.open(directory);
  const all: JournalRecord[] = [];
  try {
    for (let some = await reader.next(); some.length > 0; some = await reader.next()) all.push(...some);
    await reader.assertEnd(durableIndex);
    return all;
  } finally {
    await reader.close();
  }
}

const plain = ({ type, sequence, timeUs, offset, length, payload }: NewRecord | JournalRecord) => ({
  type,
  sequence,
  timeUs,
  offset,
  length,
  payload: payload.toString('base64'),
});

const appended = (list: readonly Step[]) =>
  list.flatMap(step => (step.kind === 'append' ? [plain(step.record)] : []));

it('gives back what was appended', async () => {
  await withMemoryDir(async root => {
    const property = fc.asyncProperty(steps, async list => {
      const directory = await mkdtemp(join(root, 'journal-'));
      const durableIndex = await write(directory, list);
      expect((await read(directory, durableIndex)).map(plain)).toEqual(appended(list));
      await rm(directory, { recursive: true });
    });
    await fc.assert(property, { numRuns: 40 });
  });
}, 60_000);

it('is whole, cut at its torn end, or refused, whatever byte is changed', async () => {
  await withMemoryDir(async root => {
    const damages = fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 0.999, noNaN: true }),
        mask: fc.integer({ min: 1, max: 255 }),
      }),
      { minLength: 1, maxLength: 3 },
    );
    const property = fc.asyncProperty(steps, damages, fc.boolean(), async (list, changes, isKnown) => {
      const directory = await mkdtemp(join(root, 'journal-'));
      const durableIndex = await write(directory, list);
      const path = segmentPath(directory, 0);
      const bytes = await readFile(path);
      const used = bytes.findLastIndex(byte => byte !== 0) + 1;
      const file = await open(path, 'r+');
      for (const { at, mask } of changes) {
        const position = Math.floor(at * used);
        await file.write(Buffer.from([(bytes[position] as number) ^ mask]), 0, 1, position);
      }
      await file.close();
      const expected = appended(list);
      try {
        const found = (await read(directory, isKnown ? durableIndex : 0)).map(plain);
        expect(found).toEqual(expected.slice(0, found.length));
        if (isKnown) expect(found).toHaveLength(expected.length);
      } catch (error) {
        if (!(error instanceof OffsiteError)) throw error;
        expect(['JournalDamaged', 'JournalInvalid']).toContain(error.code);
      }
      await rm(directory, { recursive: true });
    });
    await fc.assert(property, { numRuns: 60 });
  });
}, 60_000);
