import type { CompletedCommand } from './command-tree.ts';
import { takingValue, withChoices } from './options.ts';

/** A completion script for bash 4 and later. */
export function bashCompletion(tree: readonly CompletedCommand[]): string {
  const paths = tree.filter(({ path }) => path.length > 0).map(({ path }) => quoted(path.join(' ')));
  const words = tree.map(({ path, subcommands, options, choices }) => {
    const all = [
      ...subcommands.map(({ name }) => name),
      ...choices,
      ...options.flatMap(({ flags }) => flags.filter(flag => flag.startsWith('--'))),
    ];
    return `    ${quoted(path.join(' '))}) words=${quoted(all.join(' '))} ;;`;
  });
  const values = withChoices(tree).map(
    ({ at, flag, choices }) =>
      `    ${quoted(`${at}:${flag}`)}) mapfile -t COMPREPLY < <(compgen -W ${quoted(choices.join(' '))} -- "$cur"); return ;;`,
  );
  return `# Completion of offsite for bash: eval "$(offsite completion bash)"
_offsite() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path='' words='' i word next
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $word in
      ${takingValue(tree).map(quoted).join('|')}) ((i++)); continue ;;
    esac
    next="\${path:+$path }$word"
    case $next in
      ${paths.join('|')}) path=$next ;;
    esac
  done
  case "$path:$prev" in
${values.join('\n')}
  esac
  case $prev in
    ${takingValue(tree, 'file').map(quoted).join('|')}) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
    ${takingValue(tree, 'folder').map(quoted).join('|')}) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    ${takingValue(tree, 'other').map(quoted).join('|')}) return ;;
  esac
  case $path in
${words.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _offsite offsite
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
