import type { CompletedCommand, CompletedOption } from './command-tree.ts';
import { takingValue } from './options.ts';

/** A completion script for fish 3 and later. */
export function fishCompletion(tree: readonly CompletedCommand[]): string {
  const paths = tree.filter(({ path }) => path.length > 0).map(({ path }) => quoted(path.join(' ')));
  const lines = tree.flatMap(({ path, subcommands, options, choices }) => {
    const at = `complete -c offsite -n "__offsite_at ${quoted(path.join(' '))}"`;
    return [
      ...subcommands.map(({ name, description }) => `${at} -a ${name} -d ${quoted(description)}`),
      ...(choices.length === 0 ? [] : [`${at} -a ${quoted(choices.join(' '))}`]),
      ...options.map(option => `${at} ${flagsOf(option)} -d ${quoted(option.description)}`),
    ];
  });
  return `# Completion of offsite for fish: offsite completion fish | source
function __offsite_at
    set -l place
    set -l skip no
    for word in (commandline -opc)[2..-1]
        if test $skip = yes
            set skip no
            continue
        end
        if contains -- $word ${takingValue(tree).join(' ')}
            set skip yes
            continue
        end
        set -l next (string join ' ' $place $word)
        if contains -- $next ${paths.join(' ')}
            set place $next
        end
    end
    test "$place" = "$argv[1]"
end
complete -c offsite -f
${lines.join('\n')}
`;
}

function flagsOf({ flags, value, choices }: CompletedOption): string {
  const names = flags.map(flag => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  return [...names, valueRule(value, choices)].filter(part => part !== '').join(' ');
}

function valueRule(value: CompletedOption['value'], choices: readonly string[]): string {
  if (choices.length > 0) return `-x -a ${quoted(choices.join(' '))}`;
  if (value === 'file') return '-r -F';
  if (value === 'folder') return `-x -a '(__fish_complete_directories)'`;
  return value === 'none' ? '' : '-x';
}

const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", `\\'`)}'`;
