/** Faults of processes, and the proof that each of them came in the middle of a transfer. */
import { expect } from 'vitest';
import { durableBytes, openTransfers } from './e2e-look.ts';
import type { TwoSites } from './two-sites.ts';

const LOOK_MS = 10;
const SETTLED_MS = 500;

export const sleep = (delayMs: number): Promise<void> => new Promise(resolve => setTimeout(resolve, delayMs));

/** Looks every 10 ms until `ready`. */
export async function awaiting(
  what: string,
  ready: () => boolean | Promise<boolean>,
  timeoutMs = 120_000,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await ready())) {
    if (Date.now() > end) throw new Error(`never saw ${what}`);
    await sleep(LOOK_MS);
  }
}

/** Waits until so many more bytes have left A. */
export function moreBytes(sites: TwoSites, sizeBytes: number): Promise<void> {
  const mark = sites.proxy.bytes.up + sizeBytes;
  return awaiting(`${sizeBytes} more bytes on the line`, () => sites.proxy.bytes.up >= mark);
}

/** Waits until the line has been quiet for half a second. @returns the bytes that have left A by then */
export async function lineIsQuiet(sites: TwoSites): Promise<number> {
  for (;;) {
    const { up } = sites.proxy.bytes;
    await sleep(SETTLED_MS);
    if (sites.proxy.bytes.up === up) return up;
  }
}

export const pidOf = (sites: TwoSites, service: string): number => {
  const pid = sites.supervisor.status()[service];
  if (pid === undefined) throw new Error(`${service} does not run`);
  return pid;
};

/** kill -9. @returns when another process serves in its place */
export async function killService(sites: TwoSites, service: string): Promise<void> {
  const pid = pidOf(sites, service);
  process.kill(pid, 'SIGKILL');
  await awaiting(`another ${service}`, () => pidOf(sites, service) !== pid);
  expect(isAlive(pid)).toBe(false);
}

/** Stops processes in their tracks while `work` runs. */
export async function withStopped<T>(
  sites: TwoSites,
  services: readonly string[],
  work: () => Promise<T>,
): Promise<T> {
  const pids = services.map(service => pidOf(sites, service));
  try {
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    return await work();
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGCONT');
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

export interface KillRecord {
  /** Bytes that had left A, in the whole test, when nothing flowed any more after the kill. */
  readonly upBytes: number;
  /** Bytes of the data streams that B held as durable then. */
  readonly durableBytes: number;
}

/**
 * Kills a worker once `sizeBytes` more have passed. Nobody can connect while the outcome is looked at.
 * @throws when the kill fell outside the transfer: no disk was being received
 */
export async function killInTransfer(
  sites: TwoSites,
  service: string,
  { sizeBytes, dataBytes }: { sizeBytes: number; dataBytes: number },
): Promise<KillRecord> {
  await moreBytes(sites, sizeBytes);
  const killed = killService(sites, service);
  sites.proxy.refuse(true);
  await killed;
  const upBytes = await lineIsQuiet(sites);
  const durable = await durableBytes(sites);
  const after = await openTransfers(sites);
  sites.proxy.refuse(false);
  expect(after, 'a kill must fall inside the transfer').not.toEqual([]);
  expect(durable).toBeLessThan(dataBytes);
  return { upBytes, durableBytes: durable };
}
