import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type Supervisor, type SupervisorOptions, startSupervisor } from '../../../src/dev/supervisor.ts';
import { DataDirInUseError } from '../../../src/dev/supervisor-lock.ts';
import { readSupervisorState } from '../../../src/dev/supervisor-state.ts';
import { isRunning, startParent, temporaryFolder, until, worker } from './support.ts';

async function start(options: SupervisorOptions): Promise<Supervisor> {
  const supervisor = await startSupervisor(options);
  onTestFinished(() => supervisor.stop());
  return supervisor;
}

const STUBBORN = 'process.on("SIGTERM", () => {})';

test('ends every process when its parent is killed by SIGKILL', async () => {
  const dataDir = temporaryFolder();
  const { child, pids } = await startParent({ dataDir, services: [worker('one'), worker('two')] });
  expect(Object.keys(pids).sort()).toEqual(['one', 'supervisor', 'two']);
  child.kill('SIGKILL');
  await until('all have ended', () => !Object.values(pids).some(isRunning));
  expect(readSupervisorState(dataDir)?.processes).toEqual({});
});

test('ends every process when it is told to by SIGTERM, and tells its parent', async () => {
  const supervisor = await start({ dataDir: temporaryFolder(), services: [worker('one')] });
  const { one = 0 } = supervisor.status();
  const exit = new Promise(resolve => supervisor.onExit(resolve));
  process.kill(supervisor.pid, 'SIGTERM');
  expect(await exit).toEqual({ exitCode: 0, signal: null });
  expect(isRunning(one)).toBe(false);
});

test('what a killed supervisor left behind is ended by its parent', async () => {
  const supervisor = await start({ dataDir: temporaryFolder(), services: [worker('one')] });
  const { one = 0 } = supervisor.status();
  const exit = new Promise(resolve => supervisor.onExit(resolve));
  process.kill(supervisor.pid, 'SIGKILL');
  expect(await exit).toEqual({ exitCode: null, signal: 'SIGKILL' });
  expect(isRunning(one)).toBe(false);
});

test('what a killed supervisor and its killed parent left behind is ended by the next start', async () => {
  const dataDir = temporaryFolder();
  const { child, pids } = await startParent({ dataDir, services: [worker('one'), worker('unrecorded')] });
  // The parent first: it would clean up.
  child.kill('SIGSTOP');
  process.kill(pids.supervisor ?? 0, 'SIGKILL');
  child.kill('SIGKILL');
  await until(
    'parent and supervisor have ended',
    () => !isRunning(pids.supervisor ?? 0) && !isRunning(child.pid ?? 0),
  );
  expect([pids.one, pids.unrecorded].map(pid => isRunning(pid ?? 0))).toEqual([true, true]);
  // Killed between the start of a process and its record: the mark in its environment is left.
  const state = readSupervisorState(dataDir);
  delete state?.processes.unrecorded;
  writeFileSync(join(dataDir, 'supervisor.json'), JSON.stringify(state));

  const next = await start({ dataDir, services: [worker('one')] });
  expect([pids.one, pids.unrecorded].map(pid => isRunning(pid ?? 0))).toEqual([false, false]);
  expect(isRunning(next.status().one ?? 0)).toBe(true);
});

test('a recorded pid that belongs to another process by now is left alone', async () => {
  const dataDir = temporaryFolder();
  const stranger = await start({ dataDir: temporaryFolder(), services: [worker('stranger')] });
  const pid = stranger.status().stranger ?? 0;
  const processes = {
    old: { pid, identity: 'an-earlier-boot:1', kind: 'process', startedAt: '', restarts: 0 },
  };
  writeFileSync(
    join(dataDir, 'supervisor.json'),
    JSON.stringify({ supervisor: { pid, identity: 'x' }, processes }),
  );
  await start({ dataDir, services: [] });
  expect(isRunning(pid)).toBe(true);
});

test('a second supervisor on the same folder is refused and names the first', async () => {
  const dataDir = temporaryFolder();
  const starts = await Promise.allSettled([1, 2, 3].map(() => start({ dataDir, services: [worker('one')] })));
  const won = starts.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []));
  const lost = starts.flatMap(result => (result.status === 'rejected' ? [result.reason] : []));
  expect(won).toHaveLength(1);
  for (const error of lost) {
    expect(error).toBeInstanceOf(DataDirInUseError);
    expect(error.pid).toBe(won[0]?.pid);
  }
  expect(isRunning(won[0]?.status().one ?? 0)).toBe(true);
});

test('starts a worker again that was killed, in a new process', async () => {
  const supervisor = await start({ dataDir: temporaryFolder(), services: [worker('one')] });
  const { one: before = 0 } = supervisor.status();
  process.kill(before, 'SIGKILL');
  await until('there is a new process', () => supervisor.status().one !== before);
  expect(isRunning(supervisor.status().one ?? 0)).toBe(true);
  expect(readSupervisorState(supervisor.dataDir)?.processes.one?.restarts).toBe(1);
});

test('restarts a worker on request, SIGTERM first', async () => {
  const script = 'process.on("SIGTERM", () => { console.log("asked"); process.exit(0); }); console.log("up")';
  const supervisor = await start({ dataDir: temporaryFolder(), services: [worker('one', script)] });
  const { one: before = 0 } = supervisor.status();
  const log = join(supervisor.dataDir, 'logs', 'one.log');
  await until('it is up', () => readFileSync(log, 'utf8') === 'up\n');
  await supervisor.restart('one');
  expect(isRunning(before)).toBe(false);
  expect(isRunning(supervisor.status().one ?? 0)).toBe(true);
  expect(readFileSync(log, 'utf8')).toMatch(/^up\nasked\n/);
});

test('a service that cannot start is reported with the last line of its log, and nothing is left', async () => {
  const dataDir = temporaryFolder();
  const broken = { ...worker('broken'), command: '/does/not/exist' };
  await expect(startSupervisor({ dataDir, services: [worker('one'), broken] })).rejects.toMatchObject({
    code: 'ServiceFailed',
    message: expect.stringContaining('broken could not be started (/does/not/exist)'),
  });
  expect(readSupervisorState(dataDir)?.processes).toEqual({});
});

test('removes its folder at the end when asked to, also when it was killed', async () => {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const dataDir = temporaryFolder();
    const supervisor = await start({ dataDir, services: [worker('one')], removeDataDirAtEnd: true });
    const exit = new Promise(resolve => supervisor.onExit(resolve));
    process.kill(supervisor.pid, signal);
    await exit;
    expect(existsSync(dataDir)).toBe(false);
  }
});

test('kills a worker, and what it started, that does not stop in time', async () => {
  const child = 'require("child_process").spawn("sleep", ["600"])';
  const script = `${STUBBORN}; console.log(${child}.pid)`;
  const supervisor = await start({
    dataDir: temporaryFolder(),
    services: [{ ...worker('stubborn', script), stopTimeoutMs: 300 }],
  });
  const log = join(supervisor.dataDir, 'logs', 'stubborn.log');
  await until('it has started its child', () => readFileSync(log, 'utf8').endsWith('\n'));
  const { stubborn = 0 } = supervisor.status();
  const grandchild = Number(readFileSync(log, 'utf8'));
  await supervisor.stop();
  await until('both have ended', () => !isRunning(stubborn) && !isRunning(grandchild));
});
