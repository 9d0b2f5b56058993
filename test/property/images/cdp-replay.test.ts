/** What a journal gives back at any checkpoint is what a plain replay of its writes gives, as QEMU reads it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { JournalWriter } from '../../../src/images/cdp/journal-writer.ts';
import type { NewRecord } from '../../../src/images/cdp/record.ts';
import { readReplay, writeReplayImage } from '../../../src/images/cdp/replay.ts';
import { qemuImg } from '../../support/qemu.ts';
import { randomBytes, withMemoryDir } from '../../unit/images/replica-fixtures.ts';

const SIZE = 300 * 4096 + 1536;
const identity = {
  epoch: '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11',
  host: 'h',
  disk: 'd',
  virtualSizeBytes: SIZE,
};

const sectors = Math.floor(SIZE / 512);
const operation = fc.record({
  type: fc.constantFrom('write', 'write', 'write', 'zero', 'discard', 'checkpoint'),
  // Sectors near each other, so that writes meet; sometimes any byte.
  start: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: sectors - 1 })),
  count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant(8), fc.integer({ min: 1, max: 400 })),
  shift: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 511 })),
  seed: fc.integer({ min: 1, max: 1000 }),
});

type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

/** @returns the content at each checkpoint, by its sequence */
async function record(
  directory: string,
  operations: readonly Operation[],
  model: Buffer,
): Promise<ReadonlyMap<number, Buffer>> {
  const options = { directory, identity, segmentBytes: 2 * 1024 * 1024 };
  const writer = await JournalWriter.create(options, { sequence: 0, timeUs: 0 });
  const states = new Map<number, Buffer>();
  const nothing = Buffer.alloc(0);
  let sequence = 0;
  const append = (type: Operation['type'], offset: number, length: number, payload: Buffer = nothing) => {
    sequence += 1;
    return writer.append({ type, sequence, timeUs: sequence, offset, length, payload } as NewRecord);
  };
  for (const { type, start, count, shift, seed } of [...operations, CHECKPOINT]) {
    const offset = start * 512 + shift;
    const length = Math.min(count * 512, SIZE - offset);
    if (type === 'checkpoint') {
      await append('checkpoint', 0, 0);
      states.set(sequence, Buffer.from(model));
    } else if (length > 0 && type === 'write') {
      const payload = randomBytes(length, seed);
      payload.copy(model, offset);
      await append('write', offset, length, payload);
    } else if (length > 0) {
      model.fill(0, offset, offset + length);
      await append(type, offset, length);
    }
  }
  await writer.close();
  return states;
}
const CHECKPOINT = { type: 'checkpoint', start: 0, count: 0, shift: 0, seed: 0 } as const;

it('is the state that the writes before it made', async () => {
  await withMemoryDir(async dir => {
    const base = randomBytes(SIZE, 99);
    await writeFile(join(dir, 'base.raw'), base);
    let run = 0;
    const property = fc.asyncProperty(
      fc.array(operation, { minLength: 1, maxLength: 60 }),
      async operations => {
        run += 1;
        const directory = join(dir, `journal-${run}`);
        const states = await record(directory, operations, Buffer.from(base));
        const newest = [...states.keys()];
        for (const untilSequence of new Set([newest[0], newest.at(-1)] as number[])) {
          const { index, checkpoint } = await readReplay(directory, {
            virtualSizeBytes: SIZE,
            untilSequence,
          });
          expect(checkpoint?.sequence).toBe(untilSequence);
          const path = join(dir, `restored-${run}-${untilSequence}.qcow2`);
          await writeReplayImage({
            ...{ path, directory, index, base: { name: 'base.raw', format: 'raw' } },
            readBase: async (target, offset) => void base.copy(target, 0, offset, offset + target.length),
          });
          await qemuImg('check', '-q', '-f', 'qcow2', path);
          await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', path, `${path}.raw`);
          const content = await readFile(`${path}.raw`);
          expect(content.equals(states.get(untilSequence) as Buffer)).toBe(true);
        }
      },
    );
    await fc.assert(property, { numRuns: 25 });
  });
}, 120_000);
