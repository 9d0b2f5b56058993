import { expect, test } from 'vitest';
import { assignShortNames } from '../../../src/dev/fat/names.ts';
import type { SparseVolume } from '../../../src/dev/fat/sparse-volume.ts';
import { buildFatVolume, type FatFile } from '../../../src/dev/fat/volume.ts';

const MIB = 1024 * 1024;
const at = new Date('2026-01-02T03:04:06Z');

const files: FatFile[] = Array.from({ length: 300 }, (_, index) => ({
  path: `folder ${index % 7}/file number ${index}.txt`,
  bytes: Buffer.alloc((index * 137) % 20_000, index),
}));

const build = (input: readonly FatFile[], sizeBytes = 64 * MIB): SparseVolume =>
  buildFatVolume({ files: input, sizeBytes, label: 'TEST', at });

function changedBlocks(left: SparseVolume, right: SparseVolume): number {
  const zeros = Buffer.alloc(64 * 1024);
  let changed = 0;
  for (let index = 0; index < left.blockCount; index += 1) {
    if (!(left.block(index) ?? zeros).equals(right.block(index) ?? zeros)) changed += 1;
  }
  return changed;
}

test('the same files give the same bytes, in whatever order they come', () => {
  expect(changedBlocks(build(files), build(files.toReversed()))).toBe(0);
});

test('a file that is added, grown or removed changes few blocks', () => {
  const before = build(files);
  const added = { path: 'folder 3/new.txt', bytes: Buffer.alloc(3000, 1) };
  const grown = files.map((file, index) => (index === 150 ? { ...file, bytes: Buffer.alloc(40_000) } : file));
  for (const input of [[...files, added], grown, files.slice(1)]) {
    const changed = changedBlocks(before, build(input));
    expect(changed).toBeGreaterThan(0);
    // One file, its directory, two tables, the two copies of the boot area, and whom it displaced.
    expect(changed).toBeLessThan(16);
  }
});

test('what no file touches costs nothing', () => {
  const volume = build([{ path: 'a', bytes: Buffer.from('x') }], 4096 * MIB);
  const written = Array.from({ length: volume.blockCount }, (_, index) => volume.block(index));
  expect(written.filter(block => block !== null).length).toBeLessThan(300);
});

test('a name that is a short name has no long one beside it', () => {
  expect(assignShortNames(['README', 'KERNEL.SYS', 'readme.txt'])).toEqual([
    { long: 'README', short: 'README     ', needsLong: false },
    { long: 'KERNEL.SYS', short: 'KERNEL  SYS', needsLong: false },
    { long: 'readme.txt', short: 'README  TXT', needsLong: true },
  ]);
});

test('generated short names differ, and a further name leaves them as they are', () => {
  const names = Array.from({ length: 2000 }, (_, index) => `a rather long name, number ${index}.json`);
  const all = assignShortNames(names);
  expect(new Set(all.map(name => name.short)).size).toBe(names.length);
  const [first] = assignShortNames(names.slice(0, 1));
  expect(all[0]).toEqual(first);
});

test.each([
  ['an empty part', 'a//b'],
  ['a parent directory', '../a'],
  ['a forbidden character', 'a:b'],
  ['a trailing dot', 'a.'],
  ['256 characters', 'n'.repeat(256)],
])('refuses a path with %s', (_, path) => {
  expect(() => build([{ path, bytes: Buffer.alloc(1) }])).toThrow(
    expect.objectContaining({ code: 'FatInvalid' }),
  );
});

test('refuses what cannot stand side by side or does not fit', () => {
  const one = Buffer.alloc(1);
  const refused = expect.objectContaining({ code: 'FatInvalid' });
  const twice = (left: string, right: string) => () =>
    build([
      { path: left, bytes: one },
      { path: right, bytes: one },
    ]);
  expect(twice('a', 'a')).toThrow(refused);
  expect(twice('a', 'A')).toThrow(refused);
  expect(twice('a', 'a/b')).toThrow(refused);
  expect(() => build([{ path: 'a', bytes: Buffer.alloc(65 * MIB) }])).toThrow(refused);
  expect(() => build([], 16 * MIB)).toThrow(refused);
  expect(() => buildFatVolume({ files: [], sizeBytes: 64 * MIB, label: 'lower', at })).toThrow(refused);
});
