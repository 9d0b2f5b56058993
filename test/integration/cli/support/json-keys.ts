/** The keys that docs/cli-json.md promises, and those that a value has. */
import { readFileSync } from 'node:fs';

const PAGE = new URL('../../../../docs/cli-json.md', import.meta.url);

export interface DocumentedKeys {
  /** Paths such as `disks[].path`. */
  readonly keys: ReadonlySet<string>;
  /** Some of them are those of another command. */
  readonly inherits: boolean;
}

/** The documented keys of each command. */
export function documentedKeys(): Map<string, DocumentedKeys> {
  const [, ...sections] = readFileSync(PAGE, 'utf8').split(/^## /m);
  const documented = new Map<string, DocumentedKeys>();
  for (const section of sections) {
    const [command = '', ...lines] = section.split('\n');
    const keys = new Set<string>();
    let inherits = false;
    for (const line of lines) {
      const inherited = /[Kk]eys of (?:an entry of )?`([a-z ]+)`/.exec(line)?.[1];
      for (const key of documented.get(inherited ?? '')?.keys ?? []) keys.add(key);
      inherits ||= inherited !== undefined;
      const cell = /^\| (`.*?) \|/.exec(line)?.[1] ?? '';
      for (const [, key = ''] of cell.matchAll(/`([^`]+)`/g)) keys.add(key);
      inherits ||= cell.includes('…');
    }
    const show = documented.get('schedule show')?.keys ?? new Set();
    documented.set(command.trim(), { keys: withTaskKeys(keys, show), inherits });
  }
  return documented;
}

/** `task.…` stands for the keys of `lastTask` of `schedule show`, `retries[].…` for those of its retries. */
function withTaskKeys(keys: Set<string>, show: ReadonlySet<string>): Set<string> {
  const expand = (key: string): string[] => {
    if (!key.endsWith('…')) return [key];
    const prefix = key.slice(0, -1);
    const shown = prefix === 'task.' ? 'lastTask.' : prefix;
    return [...show].filter(path => path.startsWith(shown)).map(path => prefix + path.slice(shown.length));
  };
  return new Set([...keys].flatMap(expand));
}

/** The keys of the values, as paths; what is null or empty in one may be an object in another. */
export function printedKeys(values: readonly unknown[]): Set<string> {
  const paths = new Set(values.flatMap(value => (Array.isArray(value) ? value : [value])).flatMap(pathsOf));
  return new Set([...paths].filter(path => ![...paths].some(other => isBeneath(other, path))));
}

/** Whether `path` is what `parent` holds when it is neither null nor empty. */
export const isBeneath = (path: string, parent: string): boolean =>
  path !== parent && (path.startsWith(`${parent}.`) || path.startsWith(`${parent}[]`));

function pathsOf(value: unknown): string[] {
  if (Array.isArray(value)) {
    const beneath = value.flatMap(pathsOf);
    return value.length === 0 || beneath.length === 0 ? ['[]'] : beneath.map(path => `[]${path}`);
  }
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, child]) => {
    const beneath = pathsOf(child);
    if (beneath.length === 0) return [key];
    return beneath.map(path => (path.startsWith('[]') ? `${key}${dotted(path)}` : `${key}.${path}`));
  });
}

const dotted = (path: string): string => (path === '[]' ? path : `[].${path.slice(2)}`);
