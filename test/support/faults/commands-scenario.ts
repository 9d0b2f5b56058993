/** An operator's commands, each run again until it ends well: import, create, pause, recover, forget. */
import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Fault } from '../../../src/lib/fault-injection.ts';
import { qemuIdentical, qemuImg, qemuIo } from '../qemu.ts';
import { FaultHost } from './fault-host.ts';
import type { FaultSites } from './fault-sites.ts';

const MOST_RUNS = 40;

let count = 0;

export async function commands(on: FaultSites, faults: readonly Fault[]): Promise<void> {
  count += 1;
  const name = `commands${count}`;
  on.schedules.add(name);
  const host = new FaultHost(on, name);
  const path = await imageOf(on, `${name}-vda`);
  on.arm(faults);

  const disk = ['--disk', `vda=${path}`];
  const imported = await again(on, 'a', () => ['source', 'import', name, ...disk, '--json']);
  const { snapshot } = JSON.parse(imported) as { snapshot: string };
  await again(on, 'b', () => ['schedule', 'create', name, '--source', 'a', '--host', name, '--every', '1h']);
  await again(on, 'b', () => ['schedule', 'pause', name, '--drain']);
  await again(on, 'b', () => ['schedule', 'resume', name]);
  await host.untilPublished(snapshot);
  const [{ schedules } = { schedules: 0 }] = await on.rows<{ schedules: number }>(
    'b',
    'select count(*)::int as schedules from remote_backup_schedules where name = $1',
    [name],
  );
  expect(schedules).toBe(1);

  for (const format of ['overlay', 'qcow2', 'raw']) await recover(on, name, path, format);
  await forget(on, name);
  await seed(on, `${name}-seeded`, path);
  await host.remove();
}

/** Nothing is ever written over, so each run has a folder of its own; what has its name is whole. */
async function recover(on: FaultSites, name: string, path: string, format: string): Promise<void> {
  const folders: string[] = [];
  await again(on, 'b', () => {
    const folder = join(on.sites.dataDir, 'restored', `${name}-${format}-${folders.length}`);
    folders.push(folder);
    const as = format === 'overlay' ? [] : ['--format', format];
    return ['replica', 'recover', name, '--to', folder, ...as];
  });
  expect(visibleFiles(folders.at(-1) ?? '')).toHaveLength(1);
  for (const file of folders.flatMap(visibleFiles)) {
    expect(await qemuIdentical(path, file, ['qcow2', format === 'raw' ? 'raw' : 'qcow2'])).toBe(true);
  }
}

function visibleFiles(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
      .filter(file => !file.startsWith('.'))
      .map(file => join(folder, file));
  } catch {
    // It died before the folder was made.
    return [];
  }
}

/** What was registered before is found again; what was forgotten is gone, its file is not. */
async function seed(on: FaultSites, host: string, path: string): Promise<void> {
  const folder = join(on.sites.dataDir, 'site-b', 'seeds');
  mkdirSync(folder, { recursive: true });
  const copy = join(folder, `${host}.qcow2`);
  copyFileSync(path, copy);
  await again(on, 'b', () => ['replica', 'seed', host, '--disk', `vda=${copy}`]);
  const seeds = await on.rows<{ count: number }>(
    'b',
    `select count(*)::int from replica_seeds where path = $1`,
    [copy],
  );
  expect(seeds).toEqual([{ count: 1 }]);
  await again(on, 'b', () => ['replica', 'unseed', host, 'vda'], /is not in the catalog/);
  expect(await on.rows('b', 'select 1 from replica_seeds where path = $1', [copy])).toEqual([]);
  expect(existsSync(copy)).toBe(true);
}

async function forget(on: FaultSites, name: string): Promise<void> {
  const host = `${name}-other`;
  const path = await imageOf(on, host);
  const { snapshot } = await on.inventory.importSnapshot({
    host,
    disks: [{ disk: 'vda', path }],
    takenAt: null,
  });
  await again(on, 'a', () => ['source', 'forget', snapshot], /is not in the catalog/);
  expect(await on.rows('a', 'select 1 from host_snapshots where uuid = $1', [snapshot])).toEqual([]);
}

async function imageOf(on: FaultSites, name: string): Promise<string> {
  const path = join(on.sites.imageDir, `${name}.qcow2`);
  await qemuImg('create', '-q', '-f', 'qcow2', path, '4M');
  await qemuIo(path, ['write -P 5 0 1M']);
  return path;
}

/**
 * Runs a command until it exits 0.
 * @param done what an error says when an earlier run did it and could not tell
 */
async function again(
  on: FaultSites,
  site: 'a' | 'b',
  args: () => readonly string[],
  done: RegExp | null = null,
): Promise<string> {
  for (let runs = 1; ; runs += 1) {
    const { code, stdout, stderr } = await run(on, site, args());
    if (code === 0 || done?.test(stderr)) return stdout;
    if (runs === MOST_RUNS) throw new Error(`${args().join(' ')}: ${stderr}`);
  }
}

function run(on: FaultSites, site: 'a' | 'b', args: readonly string[]) {
  return new Promise<{ code: number | null; stdout: string; stderr: string }>(resolve => {
    const child = execFile(
      process.execPath,
      [on.starter, '--config', on.sites.configPath[site], ...args],
      { env: { ...process.env, ...on.armed }, timeout: 60_000 },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}
