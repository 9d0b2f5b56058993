import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { expect, it } from 'vitest';
import { buildProgram } from '../../../src/cli/program.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const GROUPS = ['schedule', 'source', 'replica'];
/** `offsite schedule show`, `npx offsite dev`, and in a message: 'offsite source list'. */
const MENTIONED = /\boffsite ((?:schedule|source|replica|worker|setup|dev)\b(?: (?!and\b|or\b)[a-z]+\b)?)/g;

it('every command that a message, help or page names is there', () => {
  const program = buildProgram(
    {
      out: () => undefined,
      err: () => undefined,
      isTerminal: false,
      columns: () => 80,
      rows: () => 24,
      nowMs: () => 0,
      stopSignal: () => new AbortController().signal,
    },
    () => undefined,
  );
  const texts = [
    'README.md',
    ...['docs', 'src'].flatMap(folder =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
        .filter(file => /\.(ts|md)$/.test(file) && !file.includes('decisions'))
        .map(file => join(folder, file)),
    ),
  ];
  const unknown: string[] = [];
  let seen = 0;
  for (const file of texts) {
    for (const [, words = ''] of readFileSync(join(ROOT, file), 'utf8').matchAll(MENTIONED)) {
      seen += 1;
      if (!isCommand(program, words)) unknown.push(`${file}: offsite ${words}`);
    }
  }
  expect(unknown).toEqual([]);
  expect(seen).toBeGreaterThan(30);
});

function isCommand(program: Command, words: string): boolean {
  const [first = '', second] = words.split(' ');
  const command = program.commands.find(candidate => candidate.name() === first);
  if (command === undefined) return false;
  if (second === undefined || !GROUPS.includes(first)) return true;
  return command.commands.some(candidate => candidate.name() === second);
}
