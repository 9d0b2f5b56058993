/**
 * A lock between processes that a dead holder does not keep. The same rule as src/dev/supervisor-lock.ts, in
 * plain JavaScript because it must run on Node 20 before anything is installed or built.
 */
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 100;

/**
 * Runs `action` while no other process runs one under the same lock folder.
 * @param {string} folder
 * @param {() => void} onWait called once if another process holds it
 * @param {() => Promise<void>} action
 */
export async function withLock(folder, onWait, action) {
  mkdirSync(folder, { recursive: true });
  let waited = false;
  let mine = tryLock(folder);
  while (mine === null) {
    if (!waited) onWait();
    waited = true;
    await sleep(POLL_MS);
    mine = tryLock(folder);
  }
  try {
    await action();
  } finally {
    const released = `${mine}.new-${process.pid}`;
    writeFileSync(released, JSON.stringify({ pid: 0, startedAt: '' }));
    renameSync(released, mine);
  }
}

/** Makes the file of the next higher number unless the holder of the highest lives. */
function tryLock(folder) {
  const highest = Math.max(0, ...numbersIn(folder));
  if (highest > 0 && isHeld(join(folder, String(highest)))) return null;
  const mine = join(folder, String(highest + 1));
  const fresh = `${mine}.new-${process.pid}`;
  writeFileSync(fresh, JSON.stringify(recordOf(process.pid)));
  try {
    linkSync(fresh, mine);
  } catch (error) {
    if (error.code === 'EEXIST') return null;
    throw error;
  } finally {
    rmSync(fresh, { force: true });
  }
  if (Math.max(...numbersIn(folder)) > highest + 1) {
    rmSync(mine, { force: true });
    return null;
  }
  for (const number of numbersIn(folder)) {
    if (number <= highest) rmSync(join(folder, String(number)), { force: true });
  }
  return mine;
}

const numbersIn = folder =>
  readdirSync(folder)
    .filter(name => /^[0-9]+$/.test(name))
    .map(Number);

function isHeld(path) {
  try {
    return isSameProcess(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return false;
  }
}

/** @returns what names this process, to be stored and given to {@link isSameProcess} */
export const recordOf = pid => ({ pid, startedAt: startOf(pid) });

/** Whether exactly the recorded process still runs. */
export function isSameProcess({ pid, startedAt }) {
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return startOf(pid) === startedAt;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Field 22 of /proc/PID/stat tells a process from a later one of the same pid; elsewhere than Linux it is ''. */
function startOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended, though its pid is still taken.
    return fields[0] === 'Z' ? '' : (fields[19] ?? '');
  } catch {
    return '';
  }
}
