import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** How a code stands in the sources. */
const PATTERNS = [
  /** The first argument of an error's constructor, or of its own class. */
  /(?:super|new \w*Error)\(\s*'([A-Z]\w+)'/g,
  /** A union of codes, one a line or beside a parameter. */
  /^ {2}\| '([A-Z][a-z]\w+)'/gm,
  /\bcode: (?:'[A-Z]\w+' \| )*'([A-Z]\w+)'/g,
  /\| '([A-Z][a-z]\w+)', message: string/g,
  /nonRetryable\([^\n]*, '([A-Z]\w+)'\)/g,
];

function codesInSources(): Map<string, string> {
  const found = new Map<string, string>();
  for (const file of readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue;
    const text = readFileSync(join(ROOT, 'src', file), 'utf8');
    for (const pattern of PATTERNS) {
      for (const [, code = ''] of text.matchAll(pattern)) found.set(code, file);
    }
  }
  return found;
}

function codesInDocs(): string[] {
  const text = readFileSync(join(ROOT, 'docs', 'errors.md'), 'utf8');
  const firstCells = text.split('\n').flatMap(line => /^\| (`[A-Z][^|]*) \|/.exec(line)?.[1] ?? []);
  return firstCells.flatMap(cell => [...cell.matchAll(/`(\w+)`/g)].map(([, code = '']) => code));
}

describe('docs/errors.md', () => {
  const sources = codesInSources();
  const documented = codesInDocs();

  it('has every code of the sources', () => {
    const missing = [...sources].filter(([code]) => !documented.includes(code));
    expect(missing).toEqual([]);
  });

  it('has no code that no source can throw, and none twice', () => {
    expect(documented.filter(code => !sources.has(code))).toEqual([]);
    expect(documented.filter((code, index) => documented.indexOf(code) !== index)).toEqual([]);
  });

  it('is compared with codes that were really found', () => {
    for (const code of [
      'ImageVanished',
      'BadPosition',
      'StaleAttempt',
      'NotAdmitted',
      'InvalidInput',
      'Timeout',
    ]) {
      expect(sources.has(code), code).toBe(true);
    }
  });
});
