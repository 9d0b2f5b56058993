import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { dependencyFaults } from '../../scripts/dependency-rules.ts';

const read = (name: string) => JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8'));

it('every dependency has a hash, a licence on the list, and no install script that nobody allowed', () => {
  expect(dependencyFaults(read('package-lock.json'), read('package.json'))).toEqual([]);
});

const sound = { version: '1.0.0', integrity: `sha512-${'A'.repeat(86)}==`, license: 'MIT' };
it.each([
  ['no hash', { ...sound, integrity: undefined }, /no SHA-512 integrity/],
  ['a weak hash', { ...sound, integrity: `sha1-${'A'.repeat(27)}=` }, /no SHA-512 integrity/],
  ['another origin', { ...sound, resolved: 'git+ssh://git@example.org/x.git#abc' }, /not from a registry/],
  ['an origin without TLS', { ...sound, resolved: 'http://example.org/x.tgz' }, /not from a registry/],
  ['a link', { link: true, license: 'MIT' }, /linked or bundled/],
  ['an install script', { ...sound, hasInstallScript: true }, /install script/],
  ['a licence that is not on the list', { ...sound, license: 'GPL-3.0-only' }, /licence GPL-3.0-only/],
  ['two licences of which one is not', { ...sound, license: 'MIT AND GPL-3.0-only' }, /GPL-3.0-only/],
  ["a tool's licence in what is shipped", { ...sound, license: 'MPL-2.0' }, /for what is shipped/],
  ['no licence', { ...sound, license: undefined }, /tells no licence/],
])('is refused for %s', (_what, entry, words) => {
  const faults = dependencyFaults({ lockfileVersion: 3, packages: { '': {}, 'node_modules/x': entry } }, {});
  expect(faults).toEqual([expect.stringMatching(words)]);
});

it.each([
  ['a choice of licences', { ...sound, license: '(GPL-3.0-only OR MIT)' }, {}],
  ["a tool's licence in a tool", { ...sound, license: 'MPL-2.0', dev: true }, {}],
  ['an install script that is allowed', { ...sound, hasInstallScript: true }, { allowScripts: { x: true } }],
])('is taken with %s', (_what, entry, manifest) => {
  const lock = { lockfileVersion: 3, packages: { '': {}, 'node_modules/x': entry } };
  expect(dependencyFaults(lock, manifest)).toEqual([]);
});

it('an allowance that nothing needs is told', () => {
  const lock = { lockfileVersion: 3, packages: { '': {}, 'node_modules/x': sound } };
  expect(dependencyFaults(lock, { allowScripts: { x: true } })).toEqual([expect.stringMatching(/names x/)]);
});
