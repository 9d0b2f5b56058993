/** What the tests of this folder share: folders that PostgreSQL can reach, waiting, parents to be killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import type { SupervisorOptions } from '../../../src/dev/supervisor.ts';
import { identityOf } from '../../../src/dev/supervisor-processes.ts';
import type { ProcessService } from '../../../src/dev/supervisor-service.ts';

/** A folder that is removed after the test. */
export function temporaryFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'offsite-dev-test-')));
  chmodSync(folder, 0o711);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const isRunning = (pid: number): boolean => identityOf(pid) !== null;

/** Asks again until the answer is true; fails after `timeoutMs`. */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  while (!(await isTrue())) {
    if (Date.now() > deadlineMs) throw new Error(`not in time: ${what}`);
    await sleep(10);
  }
}

/** A worker that lives until SIGTERM, and appends lines to its log. */
export const worker = (
  name: string,
  script = 'process.on("SIGTERM", () => process.exit(0))',
): ProcessService => ({
  kind: 'process',
  name,
  command: process.execPath,
  args: ['-e', `${script}; setInterval(() => {}, 60_000)`],
});

export interface SupervisedParent {
  child: ChildProcess;
  /** Of the supervisor (by that name) and of its services. */
  pids: Record<string, number>;
}

/** Starts a process that starts a supervisor. Whatever of it still runs after the test is killed. */
export async function startParent(options: SupervisorOptions): Promise<SupervisedParent> {
  const script = fileURLToPath(new URL('./supervised-parent.ts', import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let pids: Record<string, number> = {};
  onTestFinished(() => {
    for (const pid of [child.pid ?? 0, ...Object.values(pids)]) {
      if (pid > 0 && isRunning(pid)) process.kill(pid, 'SIGKILL');
    }
  });
  let output = '';
  child.stdout?.on('data', chunk => {
    output += chunk;
  });
  await until('the supervisor has started', () => output.includes('\n') || child.exitCode !== null);
  pids = JSON.parse(output) as Record<string, number>;
  return { child, pids };
}

export const exitOf = (child: ChildProcess): Promise<{ code: number | null; signal: string | null }> =>
  new Promise(resolve => child.once('exit', (code, signal) => resolve({ code, signal })));
