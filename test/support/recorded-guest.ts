/** A real QEMU with two disks, a recorder of it in a process of its own, and a load whose errors are seen. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, vi } from 'vitest';
import { QmpMonitor } from '../../src/capture/qmp/monitor.ts';
import { fileSha256, qemuImg } from './qemu.ts';

const run = promisify(execFile);
export const DISK_BYTES = 32 * 1024 * 1024;

export interface Guest {
  readonly dir: string;
  readonly images: string;
  readonly qmpSocketPath: string;
  readonly process: ChildProcess;
  /** A second monitor: the recorder has the first. */
  readonly monitor: QmpMonitor;
  /** Writes as the guest does: through the device's node, above mirror and overlay. @throws when the guest got an error */
  io(disk: 'vda' | 'vdb', ...commands: readonly string[]): Promise<string>;
  /** The SHA-256 of a disk as the guest reads it now. */
  sha256(disk: 'vda' | 'vdb'): Promise<string>;
  status(): Promise<string>;
  close(): Promise<void>;
}

/** @param dir short: it has unix sockets @param images where its disks lie */
export async function startGuest(dir: string, images = join(dir, 'images')): Promise<Guest> {
  await mkdir(images, { recursive: true });
  const paths = { vda: join(images, 'vda.qcow2'), vdb: join(images, 'vdb.qcow2') };
  for (const path of Object.values(paths)) {
    await qemuImg('create', '-q', '-f', 'qcow2', path, String(DISK_BYTES));
    await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 17 0 1M', '-c', 'write -P 34 8M 64k', path]);
  }
  const sockets = [join(dir, 'qmp.sock'), join(dir, 'qmp2.sock')] as const;
  const nbd = join(dir, 'guest.sock');
  const machine = ['-M', 'pc,accel=tcg', '-m', '32', '-nodefaults', '-display', 'none'];
  const args = [
    ...machine,
    ...sockets.flatMap(socket => ['-qmp', `unix:${socket},server=on,wait=off`]),
    ...Object.entries(paths).flatMap(([id, filename]) => [
      '-blockdev',
      JSON.stringify({ driver: 'qcow2', 'node-name': `node-${id}`, file: { driver: 'file', filename } }),
      '-device',
      `virtio-blk-pci,drive=node-${id},id=${id},share-rw=on`,
    ]),
  ];
  const process = spawn('qemu-system-x86_64', args, { stdio: 'inherit' });
  const monitor = await connected(sockets[1]).catch(error => {
    process.kill('SIGKILL');
    throw error;
  });
  await monitor.execute('nbd-server-start', { addr: { type: 'unix', data: { path: nbd } } });
  for (const id of Object.keys(paths)) {
    const options = { type: 'nbd', id: `load-${id}`, 'node-name': `node-${id}`, name: id, writable: true };
    await monitor.execute('block-export-add', options);
  }
  return {
    dir,
    images,
    qmpSocketPath: sockets[0],
    process,
    monitor,
    async io(disk, ...commands) {
      const options = commands.flatMap(command => ['-c', command]);
      const { stdout, stderr } = await run('qemu-io', [
        '-f',
        'raw',
        ...options,
        `nbd+unix:///${disk}?socket=${nbd}`,
      ]);
      if (/failed|error/i.test(stdout + stderr))
        throw new Error(`the guest saw an error: ${stdout}${stderr}`);
      return stdout;
    },
    async sha256(disk) {
      const raw = join(dir, `${disk}.raw`);
      await qemuImg('convert', '-f', 'raw', '-O', 'raw', `nbd+unix:///${disk}?socket=${nbd}`, raw);
      return fileSha256(raw);
    },
    status: async () => ((await monitor.execute('query-status')) as { status: string }).status,
    async close() {
      monitor.close();
      process.kill('SIGKILL');
      if (process.exitCode === null && process.signalCode === null) await once(process, 'exit');
    },
  };
}

const connected = (socketPath: string): Promise<QmpMonitor> =>
  vi.waitFor(() => QmpMonitor.connect(socketPath), { timeout: 60_000, interval: 100 });

export interface RecorderProcess {
  readonly process: ChildProcess;
  /** What it printed, one object a line. */
  readonly events: readonly Record<string, unknown>[];
  readonly errors: () => string;
  /** Resolves when an epoch is being recorded, for the n-th time. */
  recording(times?: number): Promise<void>;
  kill(signal?: NodeJS.Signals): Promise<void>;
}

export interface RecorderOptions {
  readonly configPath: string;
  readonly host: string;
  readonly guest: Guest;
  readonly arguments?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

export const STARTER = resolve('src/starter.ts');

export function startRecorder(options: RecorderOptions): RecorderProcess {
  const { configPath, host, guest, environment = {} } = options;
  const command = ['source', 'record', host, '--qmp', guest.qmpSocketPath, ...(options.arguments ?? [])];
  const child = spawn(process.execPath, [STARTER, '--config', configPath, '--json', ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
  });
  const events: Record<string, unknown>[] = [];
  let text = '';
  let errors = '';
  child.stdout.on('data', chunk => {
    text += chunk;
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) events.push(JSON.parse(line) as Record<string, unknown>);
  });
  child.stderr.on('data', chunk => {
    errors += chunk;
  });
  return {
    process: child,
    events,
    errors: () => errors,
    async recording(times = 1) {
      await expect
        .poll(
          () => {
            if (child.exitCode !== null) throw new Error(`the recorder ended: ${errors}`);
            return events.filter(({ event }) => event === 'recording').length;
          },
          { timeout: 60_000 },
        )
        .toBeGreaterThanOrEqual(times);
    },
    async kill(signal = 'SIGKILL') {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill(signal);
      await once(child, 'exit');
    },
  };
}

/** A source site's configuration. @returns its path */
export async function writeRecorderConfig(
  dir: string,
  databaseUrl: string,
  journals: Readonly<Record<string, string>> = {},
): Promise<string> {
  const path = join(dir, 'a.yaml');
  const config = {
    site: 'a',
    node: 'a1',
    dataDir: dir,
    database: { url: databaseUrl },
    logLevel: 'warn',
    source: {
      imageRoots: [join(dir, 'images')],
      replicaSites: [],
      journals: { segmentSize: '2MiB', ...journals },
    },
  };
  await writeFile(path, JSON.stringify(config));
  return path;
}
