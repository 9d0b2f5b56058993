import fc from 'fast-check';
import { expect, it } from 'vitest';
import { screenful } from '../../../src/cli/render/screenful.ts';

const disk = (name: string, isDone = false) => ({ line: `  ${name}`, isDone });

it('shows everything where there is room', () => {
  const lines = { head: ['head'], notes: ['  note'], disks: [disk('vda'), disk('vdb', true)] };
  expect(screenful(lines, 4)).toEqual(['head', '  note', '  vda', '  vdb']);
});

it('shows what is not done yet first, in its order, and says what is left out', () => {
  const disks = ['a', 'b', 'c', 'd', 'e', 'f'].map((name, index) => disk(name, index < 3));
  expect(screenful({ head: ['head'], notes: [], disks }, 6)).toEqual([
    'head',
    '  a',
    '  d',
    '  e',
    '  f',
    '  … and 2 more disks: 2 done, 0 not',
  ]);
  expect(screenful({ head: ['head'], notes: [], disks }, 3)).toEqual([
    'head',
    '  d',
    '  … and 5 more disks: 3 done, 2 not',
  ]);
});

it('gives many notes half of the room', () => {
  const notes = Array.from({ length: 9 }, (_, index) => `  note ${index}`);
  const disks = Array.from({ length: 9 }, (_, index) => disk(`vd${index}`));
  expect(screenful({ head: ['head'], notes, disks }, 7)).toEqual([
    'head',
    '  note 0',
    '  note 1',
    '  … and 7 more lines',
    '  vd0',
    '  vd1',
    '  … and 7 more disks: 0 done, 7 not',
  ]);
});

it('is never higher than the terminal, and keeps the head', () => {
  const lines = fc.array(fc.constant('line'), { maxLength: 30 });
  const disks = fc.array(fc.boolean(), { maxLength: 60 });
  fc.assert(
    fc.property(lines, disks, fc.integer({ min: 0, max: 50 }), (notes, done, rows) => {
      const drawn = screenful({ head: ['head'], notes, disks: done.map(isDone => disk('vd', isDone)) }, rows);
      expect(drawn.length).toBeLessThanOrEqual(Math.max(1, rows));
      expect(drawn[0]).toBe('head');
      if (1 + notes.length + done.length <= rows) expect(drawn).toHaveLength(1 + notes.length + done.length);
    }),
  );
});
