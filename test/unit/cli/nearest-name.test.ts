import { expect, it } from 'vitest';
import { editDistance, nearestName } from '../../../src/lib/nearest-name.ts';

it.each([
  ['', 'abc', 3],
  ['same', 'same', 0],
  ['listne', 'listen', 1],
  ['lisen', 'listen', 1],
  ['kitten', 'sitting', 3],
])('counts the edits from %j to %j', (left, right, distance) => {
  expect(editDistance(left, right)).toBe(distance);
});

it('finds a close name only', () => {
  const known = ['listen', 'advertise', 'directory', 'bandwidth'];
  expect(nearestName('Listn', known)).toBe('listen');
  expect(nearestName('bandwith', known)).toBe('bandwidth');
  expect(nearestName('colour', known)).toBeNull();
});
