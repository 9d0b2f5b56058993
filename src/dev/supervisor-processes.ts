/** Which process is meant by a recorded pid, and how a process group is ended. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A pid with what tells it from a later process of the same number. */
export interface ProcessRecord {
  pid: number;
  /** Boot and start time of the process; empty if it had ended before it was looked at. */
  identity: string;
}

const bootId = (() => {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8);
  } catch {
    return '';
  }
})();

/**
 * @returns the boot and start time of a living process, or null if there is none (a zombie counts as none)
 * @see proc_pid_stat(5): field 3 is the state, field 22 the start time in clock ticks after boot
 */
export function identityOf(pid: number): string | null {
  if (bootId === '') return identityByPs(pid);
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The command name (field 2) may hold spaces and brackets: count from its closing bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (fields[0] === 'Z' || fields[0] === 'X') return null;
    return `${bootId}:${fields[19]}`;
  } catch {
    return null;
  }
}

function identityByPs(pid: number): string | null {
  try {
    const started = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
    return started === '' ? null : started;
  } catch {
    return null;
  }
}

export const recordOf = (pid: number): ProcessRecord => ({ pid, identity: identityOf(pid) ?? '' });

/** Whether exactly this process, not a later one of the same pid, still runs. */
export const isAlive = (process: ProcessRecord): boolean =>
  process.identity !== '' && identityOf(process.pid) === process.identity;

/** Sends a signal to a process or, with a negative pid, to a group. A target that is gone is no error. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Waits until none of the processes lives, at most `timeoutMs`. @returns those that still do */
export async function waitForEnd(
  processes: readonly ProcessRecord[],
  timeoutMs: number,
): Promise<ProcessRecord[]> {
  const deadlineMs = Date.now() + timeoutMs;
  let living = processes.filter(isAlive);
  while (living.length > 0 && Date.now() < deadlineMs) {
    await sleep(20);
    living = living.filter(isAlive);
  }
  return living;
}

/**
 * Ends recorded processes that lead their own groups: `signal` to the leader, after `timeoutMs`
 * SIGKILL to the whole group. A pid that now belongs to another process is left alone.
 */
export async function endProcesses(
  processes: readonly ProcessRecord[],
  signal: NodeJS.Signals,
  timeoutMs: number,
): Promise<void> {
  const living = processes.filter(isAlive);
  for (const { pid } of living) sendSignal(pid, signal);
  const stubborn = await waitForEnd(living, timeoutMs);
  for (const { pid } of stubborn) sendSignal(-pid, 'SIGKILL');
  await waitForEnd(stubborn, 5_000);
  // What a leader left behind in its group must not outlive it.
  for (const { pid } of living) sendSignal(-pid, 'SIGKILL');
}

/**
 * Finds the leaders of process groups that were started with `NAME=value` in their environment.
 * Only Linux shows other processes' environments; elsewhere the answer is empty.
 */
export function groupLeadersWithEnvironment(name: string, value: string): ProcessRecord[] {
  const wanted = `${name}=${value}`;
  const found: ProcessRecord[] = [];
  for (const entry of listProc()) {
    try {
      if (!readFileSync(`/proc/${entry}/environ`, 'utf8').split('\0').includes(wanted)) continue;
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      const groupId = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2];
      if (groupId === entry) found.push(recordOf(Number(entry)));
    } catch {
      // The process has ended meanwhile, or belongs to somebody else.
    }
  }
  return found;
}

function listProc(): string[] {
  try {
    return readdirSync('/proc').filter(entry => /^[0-9]+$/.test(entry));
  } catch {
    return [];
  }
}
