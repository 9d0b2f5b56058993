/**
 * Ends the process when one case keeps it busy without an end, and says which. It counts the processor's time, not
 * the clock's: a machine that is busy with other things is no hang.
 */
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const LOOK_EACH_MS = 1_000;
const MAX_CASE_CPU_MS = 60_000;

interface GuardData {
  readonly cases: SharedArrayBuffer;
  readonly label: string;
}

export interface HangGuard {
  /** Told at the start of each case. */
  readonly enter: (caseNumber: number) => void;
  close(): Promise<void>;
}

/** @param label what to print before the case's number */
export function startHangGuard(label: string): HangGuard {
  const cases = new SharedArrayBuffer(8);
  const current = new Float64Array(cases);
  const worker = new Worker(new URL(import.meta.url), { workerData: { cases, label } satisfies GuardData });
  worker.unref();
  return {
    enter(caseNumber) {
      current[0] = caseNumber;
    },
    async close() {
      await worker.terminate();
    },
  };
}

function guard({ cases, label }: GuardData): void {
  const current = new Float64Array(cases);
  let watched = -1;
  let sinceMs = 0;
  setInterval(() => {
    const { user, system } = process.cpuUsage();
    const cpuMs = (user + system) / 1000;
    const now = current[0] ?? -1;
    if (now !== watched) {
      watched = now;
      sinceMs = cpuMs;
    } else if (cpuMs - sinceMs > MAX_CASE_CPU_MS) {
      console.error(`HANG: ${label} --first ${watched} --cases 1`);
      process.kill(process.pid, 'SIGKILL');
    }
  }, LOOK_EACH_MS);
}

if (!isMainThread) guard(workerData as GuardData);
