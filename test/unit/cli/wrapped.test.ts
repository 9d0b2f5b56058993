import fc from 'fast-check';
import { expect, it } from 'vitest';
import { wrapped } from '../../../src/cli/render/wrapped.ts';

it('breaks long lines at spaces, and long words inside', () => {
  expect(wrapped('short', 20)).toEqual(['short']);
  expect(wrapped('  retries: sending vda: no room', 20)).toEqual(['  retries: sending', '    vda: no room']);
  expect(wrapped('abcdefghijklmnopqrstuvwxyz', 10)).toEqual([
    'abcdefghij',
    '    klmnop',
    '    qrstuv',
    '    wxyz',
  ]);
});

it('leaves nothing out and keeps within the width', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 300 }), fc.integer({ min: 8, max: 100 }), (text, columns) => {
      const line = text.replaceAll(/\s+/g, ' ').trim();
      const pieces = wrapped(line, columns);
      expect(pieces.every(piece => piece.length <= columns)).toBe(true);
      expect(pieces.join('').replaceAll(' ', '')).toBe(line.replaceAll(' ', ''));
    }),
  );
});
