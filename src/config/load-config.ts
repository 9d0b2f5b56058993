/** Reads a node's YAML file, lays the environment over it, and says by line what is wrong. */
import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import type { z } from 'zod';
import { nearestName } from '../lib/nearest-name.ts';
import { ConfigError } from './config-error.ts';
import { type SiteConfig, siteConfigSchema } from './site-config.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Environment variables and the key each of them replaces. */
export const ENVIRONMENT_KEYS = {
  OFFSITE_SITE: ['site'],
  OFFSITE_NODE: ['node'],
  OFFSITE_DATA_DIR: ['dataDir'],
  OFFSITE_DATABASE_URL: ['database', 'url'],
  OFFSITE_DATABASE_OWNER_URL: ['database', 'ownerUrl'],
  OFFSITE_TEMPORAL_ADDRESS: ['temporal', 'address'],
  OFFSITE_TEMPORAL_NAMESPACE: ['temporal', 'namespace'],
  OFFSITE_WEB_UI_URL: ['webUiUrl'],
  OFFSITE_LOG_LEVEL: ['logLevel'],
} as const;

/**
 * Loads the configuration of one node. Paths in it are relative to its folder (those from the environment to the
 * working folder) and come back absolute.
 * @param path the file; null takes OFFSITE_CONFIG
 * @throws {ConfigError} `ConfigMissing` without a readable file, `ConfigInvalid` with every fault by its line
 */
export async function loadConfig(
  path: string | null,
  environment: Environment = process.env,
): Promise<SiteConfig> {
  const chosen = path ?? environment.OFFSITE_CONFIG ?? '';
  if (chosen === '') {
    throw new ConfigError(
      'ConfigMissing',
      'no configuration was named',
      "Give --config FILE or set OFFSITE_CONFIG; 'offsite dev' writes one for each of its two sites.",
    );
  }
  return parseConfig(await readText(chosen), resolve(chosen), environment);
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason =
      {
        ENOENT: 'there is no such file',
        EACCES: 'it may not be read by this user',
        EISDIR: 'it is a folder',
      }[code ?? ''] ?? message;
    throw new ConfigError(
      'ConfigMissing',
      `cannot read ${path}: ${reason}`,
      'Check --config or OFFSITE_CONFIG.',
    );
  }
}

/**
 * As {@link loadConfig}, from text.
 * @param path absolute, for messages and relative paths
 */
export function parseConfig(text: string, path: string, environment: Environment = {}): SiteConfig {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [fault] = document.errors;
  if (fault !== undefined) {
    const line = fault.linePos?.[0].line ?? 1;
    const what = fault.message.split('\n')[0]?.replace(/ at line \d+, column \d+:?$/, '') ?? 'not readable';
    throw invalid(path, [{ line, what }]);
  }
  const raw: unknown = document.toJS();
  if (raw === null || typeof raw !== 'object' || Array.isArray(raw)) {
    throw invalid(path, [{ line: 1, what: 'the file must hold keys and values, such as `site: a`' }]);
  }
  const baseFolder = dirname(path);
  const laidOver = layEnvironment(raw as Record<string, unknown>, environment);
  const parsed = siteConfigSchema.safeParse(laidOver.values);
  if (!parsed.success) {
    const lineOf = (keys: readonly PropertyKey[]): number | null => {
      const offset = offsetOf(document.contents, keys);
      return offset === null ? null : lines.linePos(offset).line;
    };
    throw invalid(
      path,
      parsed.error.issues.flatMap(issue => faultsOf(issue, lineOf, laidOver.variableOf)),
    );
  }
  return resolvePaths(parsed.data, baseFolder, environment);
}

interface Fault {
  /** From 1; null when the fault is not in the file. */
  readonly line: number | null;
  readonly what: string;
}

function invalid(path: string, faults: readonly Fault[]): ConfigError {
  const said = faults.map(({ line, what }) => (line === null ? what : `line ${line}: ${what}`)).join('; ');
  return new ConfigError('ConfigInvalid', `${path}: ${said}`, 'docs/operations.md shows a whole file.');
}

function layEnvironment(
  raw: Record<string, unknown>,
  environment: Environment,
): { values: Record<string, unknown>; variableOf: (keys: readonly PropertyKey[]) => string | null } {
  const values = structuredClone(raw);
  const variables = new Map<string, string>();
  for (const [variable, keys] of Object.entries(ENVIRONMENT_KEYS)) {
    const value = environment[variable];
    if (value === undefined || value === '') continue;
    variables.set(keys.join('.'), variable);
    const [first, second] = keys as readonly [string, string?];
    if (second === undefined) values[first] = value;
    else values[first] = { ...((values[first] as object | null | undefined) ?? {}), [second]: value };
  }
  return { values, variableOf: keys => variables.get(keys.join('.')) ?? null };
}

/** Turns one finding of zod into lines for people: a line for each unknown key. */
function faultsOf(
  issue: z.core.$ZodIssue,
  lineOf: (keys: readonly PropertyKey[]) => number | null,
  variableOf: (keys: readonly PropertyKey[]) => string | null,
): Fault[] {
  const name = issue.path.map(String).join('.');
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(issue.path);
    return issue.keys.map(key => {
      const nearest = nearestName(key, known);
      const help = nearest === null ? `known here: ${known.join(', ')}` : `did you mean '${nearest}'?`;
      return {
        line: lineOf([...issue.path, key]),
        what: `unknown key '${[...issue.path, key].join('.')}' (${help})`,
      };
    });
  }
  const variable = variableOf(issue.path);
  if (variable !== null) return [{ line: null, what: `${variable}: ${issue.message}` }];
  if (issue.code === 'invalid_type' && issue.input === undefined && lineOf(issue.path) === null) {
    return [{ line: lineOf(issue.path.slice(0, -1)), what: `'${name}' is missing` }];
  }
  return [{ line: lineOf(issue.path), what: `'${name}': ${issue.message}` }];
}

/** Where the value at `keys` (for a map's entry, its key) begins in the text; null when it is not there. */
function offsetOf(root: unknown, keys: readonly PropertyKey[]): number | null {
  let node = root;
  let offset: number | null = (node as Node | null)?.range?.[0] ?? 0;
  for (const key of keys) {
    if (isMap(node)) {
      const pair = node.items.find(item => isScalar(item.key) && String(item.key.value) === String(key));
      if (pair === undefined) return null;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    } else {
      node = (node as { items?: unknown[] } | null)?.items?.[Number(key)];
      if (node === undefined) return null;
      offset = (node as Node | null)?.range?.[0] ?? offset;
    }
  }
  return offset;
}

/** The keys that the schema knows at `path`. */
function knownKeys(path: readonly PropertyKey[]): string[] {
  let schema: unknown = siteConfigSchema;
  for (const key of path) {
    const { shape, element } = peel(schema);
    schema = shape === undefined ? element : shape[String(key)];
  }
  return Object.keys(peel(schema).shape ?? {});
}

/** Takes `optional` and `default` off a schema. */
function peel(schema: unknown): { shape?: Record<string, unknown>; element?: unknown } {
  let bare = schema as { def?: { innerType?: unknown } };
  while (bare?.def?.innerType !== undefined) bare = bare.def.innerType as typeof bare;
  return bare as { shape?: Record<string, unknown>; element?: unknown };
}

function resolvePaths(config: SiteConfig, baseFolder: string, environment: Environment): SiteConfig {
  const absolute = (path: string): string => resolve(baseFolder, path);
  const { source, replica } = config;
  return {
    ...config,
    dataDir: environment.OFFSITE_DATA_DIR ? resolve(config.dataDir) : absolute(config.dataDir),
    ...(source && {
      source: {
        ...source,
        imageRoots: source.imageRoots.map(absolute),
        ...(source.journals?.directory && {
          journals: { ...source.journals, directory: absolute(source.journals.directory) },
        }),
      },
    }),
    ...(replica && {
      replica: {
        ...replica,
        ...(replica.directory && { directory: absolute(replica.directory) }),
        ...(replica.seedRoots && { seedRoots: replica.seedRoots.map(absolute) }),
      },
    }),
  };
}
