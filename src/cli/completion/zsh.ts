import type { CompletedCommand } from './command-tree.ts';
import { takingValue, withChoices } from './options.ts';

/** A completion script for zsh; as a file `_offsite` in a folder of $fpath, or evaluated after compinit. */
export function zshCompletion(tree: readonly CompletedCommand[]): string {
  const paths = tree.filter(({ path }) => path.length > 0).map(({ path }) => quoted(path.join(' ')));
  const described = tree.map(({ path, subcommands, options, choices }) => {
    const commands = subcommands.map(({ name, description }) => quoted(`${name}:${description}`));
    const flags = options.flatMap(({ flags, description }) =>
      flags.map(flag => quoted(`${flag}:${description.replaceAll(':', '\\:')}`)),
    );
    return [
      `    ${quoted(path.join(' '))})`,
      `      commands=(${[...commands, ...choices.map(quoted)].join(' ')})`,
      `      options=(${flags.join(' ')}) ;;`,
    ].join('\n');
  });
  const values = withChoices(tree).map(
    ({ at, flag, choices }) =>
      `    ${quoted(`${at}:${flag}`)}) compadd -- ${choices.map(quoted).join(' ')}; return ;;`,
  );
  return `#compdef offsite
# Completion of offsite for zsh: source <(offsite completion zsh)
_offsite() {
  local prev=\${words[CURRENT-1]} place='' word next i
  local -a commands options
  for ((i = 2; i < CURRENT; i++)); do
    word=\${words[i]}
    case $word in
      ${takingValue(tree).join('|')}) ((i++)); continue ;;
    esac
    next="\${place:+$place }$word"
    case $next in
      ${paths.join('|')}) place=$next ;;
    esac
  done
  case "$place:$prev" in
${values.join('\n')}
  esac
  case $prev in
    ${takingValue(tree, 'file').join('|')}) _files; return ;;
    ${takingValue(tree, 'folder').join('|')}) _files -/; return ;;
    ${takingValue(tree, 'other').join('|')}) return ;;
  esac
  case $place in
${described.join('\n')}
  esac
  (( \${#commands} )) && _describe command commands
  [[ \${words[CURRENT]} == -* || \${#commands} -eq 0 ]] && _describe option options
}
if [[ \${funcstack[1]} == _offsite ]]; then _offsite "$@"; else compdef _offsite offsite; fi
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
