import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import type { CliIo } from '../../../src/cli/cli-io.ts';
import { buildProgram } from '../../../src/cli/program.ts';
import { runCli } from '../../../src/cli/run-cli.ts';

const SHELLS = ['bash', 'zsh', 'fish'] as const;

function ioInto(said: string[]): CliIo {
  return {
    out: text => void said.push(text),
    err: text => void said.push(text),
    isTerminal: false,
    columns: () => 100,
    rows: () => 24,
    nowMs: () => 0,
    stopSignal: () => new AbortController().signal,
  };
}

async function scriptOf(shell: string): Promise<string> {
  const said: string[] = [];
  expect(await runCli(['completion', shell], ioInto(said))).toBe(0);
  return said.join('');
}

/** What bash would offer for the last of the words. */
async function offered(...words: string[]): Promise<string[]> {
  const script = `${await scriptOf('bash')}
COMP_WORDS=(offsite "$@"); COMP_CWORD=$#; _offsite; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = await promisify(execFile)('bash', ['-c', script, 'bash', ...words]);
  expect(stderr).toBe('');
  return stdout.split('\n').filter(line => line !== '');
}

const commandsOf = (command: Command): Command[] => [command, ...command.commands.flatMap(commandsOf)];

describe('completion', () => {
  it.each(SHELLS)('for %s names every command and option of the program', async shell => {
    const script = await scriptOf(shell);
    const program = buildProgram(ioInto([]), () => undefined);
    for (const command of commandsOf(program)) {
      if (command !== program) expect(script).toContain(command.name());
      for (const { long } of command.options) {
        expect(script).toContain(shell === 'fish' ? `-l ${long?.slice(2)} ` : long);
      }
    }
  });

  it('in bash offers commands, options and values where each is due', async () => {
    expect(await offered('sch')).toEqual(['schedule']);
    expect(await offered('schedule', 'pa')).toEqual(['pause']);
    expect(await offered('schedule', 'delete', 'web1', '--')).toEqual(
      expect.arrayContaining(['--purge', '--force', '--site', '--json', '--config', '--help']),
    );
    expect(await offered('--config', 'schedule', 'status', '--q')).toEqual(['--quiet']);
    expect(await offered('replica', 'recover', 'web1', '--format', '')).toEqual(['overlay', 'qcow2', 'raw']);
    expect(await offered('schedule', 'create', 'x', '--every', '')).toEqual([]);
    expect(await offered('completion', 'z')).toEqual(['zsh']);
    expect(await offered('--config', '/etc/passw')).toContain('/etc/passwd');
  });

  it('knows no other shell', async () => {
    const said: string[] = [];
    expect(await runCli(['completion', 'tcsh'], ioInto(said))).toBe(2);
    expect(said.join('')).toMatch(/Allowed choices are bash, zsh, fish/);
  });
});
