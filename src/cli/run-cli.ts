import { type Command, CommanderError } from 'commander';
import type { CliIo } from './cli-io.ts';
import { errorJson, errorLine } from './error-line.ts';
import { buildProgram } from './program.ts';
import { UsageError } from './usage-error.ts';

/** Codes of commander that are no errors: help and version were asked for. */
const ASKED_FOR = new Set(['commander.helpDisplayed', 'commander.version']);

/**
 * Runs one command line.
 * @param args without the program's own name
 * @returns the exit code: 0 done, 1 failed, 2 bad usage
 */
export async function runCli(args: readonly string[], io: CliIo): Promise<number> {
  let exitCode = 0;
  const program = buildProgram(io, code => {
    exitCode = code;
  });
  try {
    await program.parseAsync(helpAsked(args), { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && ASKED_FOR.has(error.code)) return 0;
    // Help has been written already: it was asked for, or a group stood without its command.
    if (error instanceof CommanderError && error.code === 'commander.help')
      return error.exitCode === 0 ? 0 : 2;
    const told = errorJson(
      error instanceof CommanderError ? asUsageError(error, named(program, args)) : error,
    );
    const json = program.opts<{ json?: boolean }>().json === true || args.includes('--json');
    io.err(json ? `${JSON.stringify({ error: told })}\n` : `${errorLine(told)}\n`);
    if (told.code === 'Unexpected' && process.env.OFFSITE_DEBUG) io.err(`${(error as Error).stack}\n`);
    return told.code === 'BadUsage' ? 2 : 1;
  }
}

/** `help schedule create` is `schedule create --help`. */
const helpAsked = (args: readonly string[]): readonly string[] =>
  args[0] === 'help' ? [...args.slice(1), '--help'] : args;

/** The command that a line names, as far as it is known: `schedule create`. */
function named(program: Command, args: readonly string[]): string {
  let command = program;
  const path: string[] = [];
  for (const arg of args) {
    const next = command.commands.find(candidate => candidate.name() === arg);
    if (next === undefined) continue;
    command = next;
    path.push(arg);
  }
  return path.join(' ');
}

/**
 * Tells what commander says as a message and a hint: `unknown option '--jsn'\n(Did you mean --json?)`, and
 * `option '--every <time>' argument '15' is invalid. '15' has no unit: …`.
 */
function asUsageError({ message, code }: CommanderError, command: string): UsageError {
  const said = message.replace(/^error: /, '').replace(/^command-argument/, 'argument');
  const suggested = /^(.*)\n\((.*)\)$/s.exec(said);
  const invalid = /^(.*? is invalid(?: for argument '.*?')?)\. (.*)$/s.exec(said);
  const help = `'offsite ${command === '' ? '' : `${command} `}--help'`;
  const hint =
    code === 'commander.unknownCommand' ? `${help} lists the commands.` : `${help} shows how it is used.`;
  const [, what = said, why = hint] = suggested ?? invalid ?? [];
  return new UsageError(what, why);
}
