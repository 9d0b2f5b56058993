import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { buildProgram } from '../../../src/cli/program.ts';
import { helpText } from '../../../src/cli/render/help-text.ts';

describe('helpText', () => {
  it('leaves alone what fits', () => {
    const text = 'Usage: offsite\n\nShows it.\nAll of it.\n\nExamples:\n  $ offsite status\n';
    expect(helpText(text, 40)).toBe(text);
  });

  it('fills a paragraph that is too wide anew, and breaks an example so that it still runs', () => {
    const text =
      'It says what it does and\nwhy.\n\nExample:\n  $ offsite schedule create a --host a --every 1h\n';
    expect(helpText(text, 22).split('\n')).toEqual([
      ...['It says what it does', 'and why.', '', 'Example:'],
      ...['  $ offsite schedule \\', '      create a \\', '      --host a \\', '      --every 1h', ''],
    ]);
    expect(helpText(text, 42).split('\n')).toEqual([
      ...['It says what it does and', 'why.', '', 'Example:'],
      ...['  $ offsite schedule create a --host a \\', '      --every 1h', ''],
    ]);
  });
});

const pathsOf = (command: Command, path: readonly string[] = []): string[][] => [
  [...path],
  ...command.commands.flatMap(child => pathsOf(child, [...path, child.name()])),
];

function programThat(write: (text: string) => void): Command {
  return buildProgram(
    {
      out: write,
      err: () => undefined,
      isTerminal: true,
      columns: () => 80,
      rows: () => 24,
      nowMs: () => 0,
      stopSignal: () => new AbortController().signal,
    },
    () => undefined,
  );
}

const COMMANDS = pathsOf(programThat(() => undefined)).map(path => [path.join(' '), path] as const);

it.each(COMMANDS)('the help of offsite %s fits 80 columns', (_, path) => {
  let text = '';
  const program = programThat(written => {
    text += written;
  });
  expect(() => program.parse([...path, '--help'], { from: 'user' })).toThrow();
  const lines = text.split('\n');
  expect(lines.length).toBeGreaterThan(3);
  expect(lines.filter(line => line.length > 80)).toEqual([]);
});
