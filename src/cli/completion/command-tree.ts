/** The command line as data, read from the program itself: completions cannot drift from it. */
import type { Command, Option } from 'commander';

export interface CompletedOption {
  /** `--config`, `-V`. */
  readonly flags: readonly string[];
  readonly description: string;
  /** What its value is; `none` for a switch. */
  readonly value: 'none' | 'file' | 'folder' | 'other';
  /** All that its value may be; empty when there is no such list. */
  readonly choices: readonly string[];
}

export interface CompletedCommand {
  /** From the program down: `['schedule', 'pause']`; empty for the program itself. */
  readonly path: readonly string[];
  readonly description: string;
  readonly subcommands: readonly { readonly name: string; readonly description: string }[];
  /** Its own and those of the program. */
  readonly options: readonly CompletedOption[];
  /** What its first argument may be; empty when there is no such list. */
  readonly choices: readonly string[];
}

/** Every command, the program first. */
export function commandTree(program: Command): readonly CompletedCommand[] {
  const common = program.options.filter(({ long }) => long !== '--version');
  const visit = (command: Command, path: readonly string[]): CompletedCommand[] => [
    {
      path,
      description: oneLine(command.description()),
      subcommands: command.commands.map(sub => ({
        name: sub.name(),
        description: oneLine(sub.description()),
      })),
      options: [...command.options, ...(command === program ? [] : common)].map(toOption).concat(HELP),
      choices: [...(command.registeredArguments[0]?.argChoices ?? [])],
    },
    ...command.commands.flatMap(sub => visit(sub, [...path, sub.name()])),
  ];
  return visit(program, []);
}

const HELP: CompletedOption = {
  flags: ['--help'],
  description: 'display help for command',
  value: 'none',
  choices: [],
};

const toOption = ({ short, long, description, flags, required, argChoices }: Option): CompletedOption => ({
  flags: [short, long].filter(flag => flag !== undefined && flag !== null),
  description: oneLine(description),
  value: required ? valueKind(flags) : 'none',
  choices: argChoices ?? [],
});

function valueKind(flags: string): 'file' | 'folder' | 'other' {
  if (flags.includes('<file>')) return 'file';
  return flags.includes('<dir>') ? 'folder' : 'other';
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();
