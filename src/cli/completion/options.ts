/** What the scripts of all shells need to know of the options. */
import type { CompletedCommand, CompletedOption } from './command-tree.ts';

/** The flags that take a value, of all commands: an option of one name takes one everywhere. */
export function takingValue(tree: readonly CompletedCommand[], value?: CompletedOption['value']): string[] {
  const flags = tree.flatMap(({ options }) =>
    options.filter(option => option.value !== 'none' && (value ?? option.value) === option.value),
  );
  return [...new Set(flags.flatMap(option => option.flags))].sort();
}

/** The options whose value is one of a list, and where they stand. */
export const withChoices = (
  tree: readonly CompletedCommand[],
): readonly { readonly at: string; readonly flag: string; readonly choices: readonly string[] }[] =>
  tree.flatMap(({ path, options }) =>
    options
      .filter(({ choices }) => choices.length > 0)
      .flatMap(({ flags, choices }) => flags.map(flag => ({ at: path.join(' '), flag, choices }))),
  );
