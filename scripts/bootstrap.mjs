/**
 * Makes a clone ready to run: packages installed, sources built, the Temporal command line at hand. Runs before
 * `npm start` and `npm test`, needs only Node 20 and npm, does nothing when nothing has changed, and is safe
 * when two start at once.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { findNode24, root } from '../bin/launch.mjs';
import { isSameProcess, recordOf, withLock } from './lock.mjs';
import { sourcesId } from './sources-id.mjs';

const OLDEST_NODE_MAJOR = 20;
const installStamp = join(root, 'node_modules', '.offsite-install');
const npmRecord = join(root, '.cache', 'npm.json');
const buildStamp = join(root, 'dist', '.build-id');
const temporalStamp = join(root, '.cache', 'temporal-cli.json');

/** What stops a start, with what to do about it. */
class BootstrapError extends Error {
  constructor(message, hint, output = '') {
    super(message);
    this.hint = hint;
    this.output = output;
  }
}

/**
 * Does what is missing. On failure it says why in one line and ends the process with exit code 1.
 * @param {{ withTemporal: boolean }} options whether the Temporal command line is needed too
 */
export async function bootstrap({ withTemporal }) {
  try {
    checkNode();
    if (isReady(withTemporal)) return;
    mkdirSync(join(root, '.cache'), { recursive: true });
    const onWait = () => say('Another start is setting up this folder; waiting for it ...');
    await withLock(join(root, '.cache', 'bootstrap-lock'), onWait, async () => {
      if (!isInstalled()) await install();
      if (!isBuilt()) build();
      if (withTemporal && !hasTemporal()) fetchTemporal();
    });
  } catch (error) {
    if (!(error instanceof BootstrapError)) throw error;
    if (error.output !== '') console.error(error.output.trimEnd());
    console.error(`offsite: ${error.message}. ${error.hint}`);
    process.exit(1);
  }
}

const say = text => console.error(text);
const isReady = withTemporal => isInstalled() && isBuilt() && (!withTemporal || hasTemporal());
const sha256 = data => createHash('sha256').update(data).digest('hex');
const readText = path => (existsSync(path) ? readFileSync(path, 'utf8') : null);

function checkNode() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= OLDEST_NODE_MAJOR) return;
  throw new BootstrapError(
    `needs Node ${OLDEST_NODE_MAJOR} or newer, this is ${process.version}`,
    'Install a newer Node.',
  );
}

// Packages

const lockFileHash = () => sha256(readFileSync(join(root, 'package-lock.json')));

function isInstalled() {
  if (findNode24() === null) return false;
  if (readText(installStamp) === lockFileHash()) return true;
  // Installed by npm itself: its own record tells whether that was from this lock file.
  if (!matchesNpmRecord()) return false;
  writeFileSync(installStamp, lockFileHash());
  return true;
}

function matchesNpmRecord() {
  const record = readText(join(root, 'node_modules', '.package-lock.json'));
  if (record === null) return false;
  const installed = JSON.parse(record).packages ?? {};
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true;
    const found = installed[path];
    if (found === undefined) return entry.optional === true || entry.devOptional === true;
    return found.version === entry.version && found.integrity === entry.integrity;
  });
}

async function install() {
  await endOrphanedNpm();
  say('Installing packages (npm ci) ...');
  const args = ['ci', '--no-audit', '--no-fund', '--include=dev', '--include=optional', '--loglevel=error'];
  const { error, status, stderr } = await runNpm(args);
  if (error?.code === 'ENOENT')
    throw new BootstrapError('npm was not found', 'Install npm, or put it on PATH.');
  if (error) throw new BootstrapError(`npm did not run (${error.message})`, 'Run `npm ci` by hand.');
  if (status !== 0) {
    const network = /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ECONNRESET)\b/.exec(stderr);
    if (network) {
      const hint = 'Packages are installed once; connect to the network, or set `npm config set registry`.';
      throw new BootstrapError(`the npm registry is out of reach (${network[1]})`, hint);
    }
    throw new BootstrapError('npm ci failed', 'The lines above say why.', stderr);
  }
  if (findNode24() === null) {
    const hint = 'Allow them (`npm config set ignore-scripts false`), or run Offsite with Node 24.';
    throw new BootstrapError('npm did not run the install script of the package `node`', hint);
  }
  writeFileSync(installStamp, lockFileHash());
}

/** Runs npm in a group of its own, noted in a file, so that nothing of it survives the end of this process. */
function runNpm(args) {
  const npm = spawn('npm', args, { cwd: root, detached: true, stdio: ['ignore', 'ignore', 'pipe'] });
  if (npm.pid !== undefined) writeFileSync(npmRecord, JSON.stringify(recordOf(npm.pid)));
  const stop = signal => {
    if (npm.pid !== undefined) endGroup(npm.pid);
    process.kill(process.pid, signal);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.once(signal, stop);
  let stderr = '';
  npm.stderr.on('data', chunk => {
    stderr += chunk;
  });
  return new Promise(resolve => {
    const done = (error, status) => {
      for (const signal of signals) process.off(signal, stop);
      rmSync(npmRecord, { force: true });
      resolve({ error, status, stderr });
    };
    npm.once('error', error => done(error, null));
    npm.once('close', status => done(null, status));
  });
}

/** The npm of a start that was killed would write into the same folder as ours. */
async function endOrphanedNpm() {
  const text = readText(npmRecord);
  if (text === null) return;
  const record = JSON.parse(text);
  if (isSameProcess(record)) endGroup(record.pid);
  while (isSameProcess(record)) await sleep(20);
  rmSync(npmRecord, { force: true });
}

function endGroup(pid) {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

// Build

const isBuilt = () => readText(buildStamp) === sourcesId(root);

function build() {
  say('Building ...');
  const { status, stdout, stderr } = runNode24('scripts/build.mjs');
  if (status !== 0) throw new BootstrapError('the build failed', 'The lines above say why.', stdout + stderr);
}

function runNode24(...args) {
  return spawnSync(findNode24(), args, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
}

// The Temporal command line

/** The file that was found last time, unchanged, under the same setting. */
function hasTemporal() {
  try {
    const { path, sizeBytes, mtimeMs, configured } = JSON.parse(readFileSync(temporalStamp, 'utf8'));
    const stat = statSync(path);
    return (
      stat.size === sizeBytes &&
      stat.mtimeMs === mtimeMs &&
      configured === (process.env.OFFSITE_TEMPORAL_CLI ?? '')
    );
  } catch {
    return false;
  }
}

function fetchTemporal() {
  const script = join(root, 'scripts', 'find-temporal.mjs');
  const { status, stdout } = spawnSync(findNode24(), [script], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) {
    const [message, hint] = stdout.trim().split('\n');
    throw new BootstrapError(message || 'no Temporal command line', hint ?? '');
  }
  const path = stdout.trim();
  const { size, mtimeMs } = statSync(path);
  const configured = process.env.OFFSITE_TEMPORAL_CLI ?? '';
  writeFileSync(temporalStamp, JSON.stringify({ path, sizeBytes: size, mtimeMs, configured }));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await bootstrap({ withTemporal: true });
}
