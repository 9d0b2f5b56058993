/** The newest checkpoint at or before a time is the one that a plain search through all records finds. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { newestCheckpointAt, newestWholeCheckpoint } from '../../../src/images/cdp/checkpoints.ts';
import { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import { withMemoryDir } from '../../unit/images/replica-fixtures.ts';

const MIB = 1024 * 1024;
const identity = {
  epoch: '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11',
  host: 'h',
  disk: 'd',
  virtualSizeBytes: 64 * MIB,
};

/** Large writes fill segments of 2 MiB; many steps are of one millisecond. */
const steps = fc.array(
  fc.record({
    isCheckpoint: fc.boolean(),
    gapUs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 3000 })),
    bytes: fc.oneof(fc.integer({ min: 1, max: 4096 }), fc.constant(900_000)),
  }),
  { minLength: 1, maxLength: 25 },
);
const asked = fc.array(
  fc.record({
    at: fc.double({ min: -0.1, max: 1.1, noNaN: true }),
    oldest: fc.double({ min: 0, max: 1, noNaN: true }),
    newest: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
  { minLength: 1, maxLength: 10 },
);

interface Step {
  readonly isCheckpoint: boolean;
  readonly gapUs: number;
  readonly bytes: number;
}

async function journalOf(directory: string, list: readonly Step[]) {
  const options = { directory, identity, segmentBytes: 2 * MIB };
  const writer = await JournalWriter.create(options, { sequence: 0, timeUs: 5_000_000 });
  const checkpoints: { sequence: number; timeUs: number }[] = [];
  let timeUs = 5_000_000;
  for (const [index, { isCheckpoint, gapUs, bytes }] of list.entries()) {
    timeUs += gapUs;
    const sequence = index + 1;
    const length = isCheckpoint ? 0 : bytes;
    const type = isCheckpoint ? ('checkpoint' as const) : ('write' as const);
    await writer.append({ type, sequence, timeUs, offset: 0, length, payload: Buffer.alloc(length, 7) });
    if (isCheckpoint) checkpoints.push({ sequence, timeUs });
  }
  await writer.close();
  return { checkpoints, timeUs };
}

it('is found over segments, times that stand still, and any bounds', async () => {
  await withMemoryDir(async root => {
    const property = fc.asyncProperty(steps, asked, async (list, questions) => {
      const directory = await mkdtemp(join(root, 'journal-'));
      const { checkpoints, timeUs } = await journalOf(directory, list);
      for (const question of questions) {
        const newest = checkpoints[Math.floor(question.newest * checkpoints.length)]?.sequence;
        if (newest === undefined) continue;
        const oldest = Math.floor(question.oldest * newest);
        const atMs = Math.floor((5_000_000 + question.at * (timeUs - 5_000_000)) / 1000);
        const expected = checkpoints
          .filter(({ sequence }) => sequence >= oldest && sequence <= newest)
          .filter(found => Math.floor(found.timeUs / 1000) <= atMs)
          .at(-1);
        const found = await newestCheckpointAt(directory, { atMs, oldest, newest });
        expect(found && { sequence: found.sequence, timeUs: found.timeUs }).toEqual(expected ?? null);
        expect((await newestWholeCheckpoint(directory, newest))?.sequence).toBe(newest);
      }
      await rm(directory, { recursive: true });
    });
    await fc.assert(property, { numRuns: 60 });
  });
}, 180_000);
