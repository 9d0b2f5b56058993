/**
 * The guard: a process of its own that sees to it that no crash of the recorder holds the guest up. It ends a recorder
 * that is silent, and lets the guest go on when it stood still or was frozen at that moment.
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLog } from '../../lib/log.ts';
import { GuestAgent } from '../agent/guest-agent.ts';
import { QmpMonitor } from '../qmp/monitor.ts';
import type { GuardMessage } from './guard-messages.ts';
import { firstGuardState, heard, look } from './guard-rules.ts';

const LOOK_MS = 50;
const ATTEMPTS = 200;
const RETRY_MS = 50;
const ANSWER_MS = 2_000;

const log = createLog('info', { process: 'guard' });
let watched: Extract<GuardMessage, { type: 'watch' }> | null = null;
let state = firstGuardState(performance.now());
let isAlone = false;

// A terminal's Ctrl-C is for the recorder, which ends the guard by closing its input.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});

const lines = createInterface({ input: process.stdin });
lines.on('line', line => {
  const message = JSON.parse(line) as GuardMessage;
  if (message.type === 'watch') watched = message;
  state = heard(state, message, performance.now());
});
lines.on('close', () => {
  isAlone = true;
});

while (!isAlone) {
  await sleep(LOOK_MS);
  const looked = look(state, performance.now());
  state = looked.state;
  if (looked.verdict !== null && !isAlone) endRecorder(looked.verdict);
}
if (state.intent !== null && watched !== null) await release(watched, state.intent);

/** Its connections end with it: QEMU's writes to it fail, which the mirror reports, and the guest goes on. */
function endRecorder(why: string): void {
  if (watched === null || process.ppid !== watched.recorderPid) return;
  log.error({ pid: watched.recorderPid }, `the recorder is ended: ${why}`);
  process.kill(watched.recorderPid, 'SIGKILL');
}

async function release(
  { qmpSocketPath, agentSocketPath }: Extract<GuardMessage, { type: 'watch' }>,
  { resume, thaw }: { readonly resume: boolean; readonly thaw: boolean },
): Promise<void> {
  await Promise.all([
    thaw && agentSocketPath !== null ? persistently('thaw', () => thawGuest(agentSocketPath)) : null,
    resume ? persistently('resume', () => resumeGuest(qmpSocketPath)) : null,
  ]);
}

/** The monitor serves one client at a time, and may not have noticed yet that the last one is dead. */
async function persistently(what: string, work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    try {
      await work();
      log.info({ attempt }, `${what}: done`);
      return;
    } catch (error) {
      if (attempt === ATTEMPTS) log.error({ error }, `${what}: given up`);
      await sleep(RETRY_MS);
    }
  }
}

async function resumeGuest(qmpSocketPath: string): Promise<void> {
  const monitor = await QmpMonitor.connect(qmpSocketPath, ANSWER_MS);
  try {
    const { status } = (await monitor.execute('query-status', undefined, ANSWER_MS)) as { status?: unknown };
    if (status === 'paused') await monitor.execute('cont', undefined, ANSWER_MS);
  } finally {
    monitor.close();
  }
}

async function thawGuest(agentSocketPath: string): Promise<void> {
  const agent = await GuestAgent.connect(agentSocketPath, ANSWER_MS);
  try {
    await agent.thaw(ANSWER_MS);
  } finally {
    agent.close();
  }
}
