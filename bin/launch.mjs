/** Runs a script under Node 24 as if it were this process: same stdio, signals, exit code, and one life. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const NEEDED_NODE_MAJOR = 24;

const FORWARDED_SIGNALS = ['SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGINT'];
const PARENT_POLL_MS = 500;

/** Whether this very process is new enough. */
export const isNewEnough = Number(process.versions.node.split('.')[0]) >= NEEDED_NODE_MAJOR;

/** The path of a Node 24 or newer, or null if there is none yet. */
export function findNode24() {
  if (isNewEnough) return process.execPath;
  const path = join(root, 'node_modules', 'node', 'bin', 'node');
  return existsSync(path) ? path : null;
}

/**
 * Runs `node SCRIPT ARGS`. Signals are passed on, and the child gets SIGTERM when this process is killed.
 * @param {string} node path of the Node to use
 * @param {readonly string[]} args the script and its arguments
 * @returns {Promise<{ exitCode: number | null, signal: NodeJS.Signals | null }>}
 */
export function runNode(node, args) {
  const preload = new URL('./end-with-parent.mjs', import.meta.url).href;
  const child = spawn(node, ['--import', preload, ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  const listeners = FORWARDED_SIGNALS.map(signal => {
    const listener = () => {
      // Ctrl-C reaches the child by itself: the terminal sends it to the whole foreground group.
      if (signal === 'SIGINT' && process.stdin.isTTY) return;
      child.kill(signal);
    };
    process.on(signal, listener);
    return { signal, listener };
  });
  const stopWatching = onNpmDeath(() => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (exitCode, signal) => {
      stopWatching();
      for (const { signal: name, listener } of listeners) process.off(name, listener);
      resolve({ exitCode, signal });
    });
  });
}

/** Ends this process the way the child ended: with its exit code, or by its signal. */
export function exitLike({ exitCode, signal }) {
  if (signal === null) process.exit(exitCode ?? 1);
  process.kill(process.pid, signal);
  // A signal that does not end us still gives the shell's usual code.
  setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 1_000);
}

/**
 * Under `npm start` and `npx` this process belongs to npm: `action` is called when npm is gone, even by SIGKILL.
 * @returns {() => void} stops watching
 */
export function onNpmDeath(action) {
  if (process.env.npm_lifecycle_event !== 'start' && process.env.npm_lifecycle_event !== 'npx')
    return () => {};
  const ancestors = npmAncestors();
  const timer = setInterval(() => {
    if (npmAncestors() === ancestors) return;
    clearInterval(timer);
    action();
  }, PARENT_POLL_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** The pids from our parent up to npm, which runs scripts in a shell that outlives it. */
function npmAncestors() {
  try {
    const stat = readFileSync(`/proc/${process.ppid}/stat`, 'latin1');
    const name = stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
    const grandparent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
    return /^(sh|dash|bash)$/.test(name) ? `${process.ppid} ${grandparent}` : String(process.ppid);
  } catch {
    return String(process.ppid);
  }
}
