/** Command lines to copy and paste: they work in a shell whose folder is this process's. */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { packageRoot } from '../../lib/package-root.ts';

/** @param commands the words after `offsite`, and the configuration they need */
export function commandLines(
  commands: readonly (readonly [words: readonly string[], configPath: string])[],
  cwd = process.cwd(),
): string[] {
  const program = programIn(cwd);
  return commands.map(([words, configPath]) =>
    [...program, ...words, '--config', shorter(configPath, cwd)].map(shellQuote).join(' '),
  );
}

/** npx finds the program in its own folder and where it was installed; elsewhere its path is needed. */
function programIn(cwd: string): string[] {
  const root = packageRoot();
  if (cwd === root || existsSync(join(cwd, 'node_modules', '.bin', 'offsite'))) return ['npx', 'offsite'];
  return ['node', join(root, 'bin', 'offsite.mjs')];
}

/** A path below the folder is written from there. */
function shorter(path: string, cwd: string): string {
  const fromHere = relative(cwd, path);
  return fromHere.startsWith('..') ? path : fromHere;
}

/** Quotes what a POSIX shell would not take as one plain word. */
export const shellQuote = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
