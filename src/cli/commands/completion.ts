import { Argument, type Command } from 'commander';
import type { CliIo } from '../cli-io.ts';
import { bashCompletion } from '../completion/bash.ts';
import { commandTree } from '../completion/command-tree.ts';
import { fishCompletion } from '../completion/fish.ts';
import { zshCompletion } from '../completion/zsh.ts';

const SCRIPTS = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion } as const;

/** `offsite completion`: made from the program's own commands, so it is to be added last. */
export function addCompletionCommand(program: Command, io: CliIo): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>', 'which shell').choices(Object.keys(SCRIPTS)))
    .description("print a script that completes offsite's commands and options in this shell")
    .addHelpText(
      'after',
      `
Examples:
  $ offsite completion bash > /etc/bash_completion.d/offsite
  $ offsite completion zsh > "\${fpath[1]}/_offsite"
  $ offsite completion fish > ~/.config/fish/completions/offsite.fish`,
    )
    .action((shell: keyof typeof SCRIPTS) => io.out(SCRIPTS[shell](commandTree(program))));
}
