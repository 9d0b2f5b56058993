import { describe, expect, it } from 'vitest';
import { MAX_WORDS_LENGTH, plainWords, shownValue } from '../../../src/domain/plain-words.ts';

describe('words from elsewhere', () => {
  it('show what would move the cursor, hide or turn text', () => {
    expect(plainWords('\u001b[2J\u009b31m full')).toBe('\\u001b[2J\\u009b31m full');
    expect(plainWords('a\u202egnp.exe \u0000 \u{e0041}')).toBe('a\\u202egnp.exe \\u0000 \\u{e0041}');
    expect(plainWords('half \ud83d of one, whole 😀')).toBe('half \\ud83d of one, whole 😀');
  });

  it('are one line', () => {
    expect(plainWords('  first\r\nsecond\u2028third\tfourth ')).toBe('first second third fourth');
  });

  it('are cut with a mark, never within a character', () => {
    const cut = plainWords('x'.repeat(5_000_000));
    expect(cut).toHaveLength(MAX_WORDS_LENGTH);
    expect(cut).toMatch(/x … \(cut\)$/);
    for (let length = 12; length < 20; length += 1) {
      expect(plainWords('😀'.repeat(100), length).isWellFormed()).toBe(true);
    }
    expect(plainWords('x'.repeat(MAX_WORDS_LENGTH))).toBe('x'.repeat(MAX_WORDS_LENGTH));
  });

  it('are named in short whatever they are', () => {
    expect(shownValue('y'.repeat(100)).length).toBeLessThan(70);
    expect([undefined, null, 7, [1, 2], {}].map(value => shownValue(value))).toEqual([
      'missing',
      'null',
      '7',
      'a list of 2',
      'an object',
    ]);
  });
});
