import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { openDatabase } from '../../../src/catalog/database.ts';
import type { CliIo } from '../../../src/cli/cli-io.ts';
import { buildProgram } from '../../../src/cli/program.ts';
import { createDevOutput } from '../../../src/cli/render/dev-output.ts';
import { loadConfig } from '../../../src/config/load-config.ts';
import { writeConfig } from '../../../src/config/write-config.ts';
import { OffsiteError } from '../../../src/domain/errors.ts';
import { publishBase, publishEpoch } from '../../support/cdp-point.ts';
import { useTestDatabase } from '../../support/database.ts';
import { logOf, mark, write } from '../../support/log-writes.ts';
import { qemuImg, qemuIo } from '../../support/qemu.ts';
import { startGuest, startRecorder } from '../../support/recorded-guest.ts';
import { documentedKeys, isBeneath, printedKeys } from './support/json-keys.ts';
import { runStarter, STARTER } from './support/starter.ts';

const database = useTestDatabase({ migrated: false });
/** What each command printed. */
const printed = new Map<string, unknown[]>();
let folder: string;
let dev: ChildProcess;
const note = (command: string, ...values: unknown[]): void => {
  printed.set(command, [...(printed.get(command) ?? []), ...values]);
};

/** Their exit codes tell monitoring what they found. */
const TELLING = new Set(['status', 'replica verify']);

/** Runs a command at one of the two sites, and notes what it prints. */
async function offsite(site: 'a' | 'b', command: string, ...args: string[]): Promise<unknown> {
  const config = join(folder, 'data', `site-${site}.yaml`);
  const { code, out, err } = await runStarter([...command.split(' '), ...args, '--json'], {
    OFFSITE_CONFIG: config,
  });
  expect({ command, args, code: TELLING.has(command) ? 0 : code, err }).toEqual({
    command,
    args,
    code: 0,
    err: '',
  });
  const values = out.startsWith('[') || out.startsWith('{\n') ? [JSON.parse(out)] : linesOf(out);
  note(command, ...values);
  return values.at(-1);
}

const linesOf = (out: string): unknown[] =>
  out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'offsite-json-'));
  const names = ['vda', 'other', 'spare', 'logged', 'more'];
  const images = names.map(name => join(folder, `${name}.qcow2`));
  for (const image of images) {
    await qemuImg('create', '-f', 'qcow2', image, '2M');
    await qemuIo(image, ['write -P 7 0 256k']);
  }
  const [vda = '', other = '', spare = '', logged = '', more = ''] = images;
  await startDev(['--disk', `vda=${vda}`]);
  await Promise.all([sourceCommands(other, spare, logged, more), replicaCommands(), scheduleLooks()]);
  await Promise.all([scheduleRequests(), workerCommand()]);
  await recorderCommands();
  await epochCommands();
  await damageCommands();
}, 600_000);

afterAll(async () => {
  const exit = once(dev, 'exit');
  dev.kill('SIGTERM');
  await exit;
  await rm(folder, { recursive: true });
});

/** Both sites with one replicated host, until the job is done. */
async function startDev(args: readonly string[]): Promise<void> {
  dev = spawn(process.execPath, [STARTER, 'dev', '--json', '--data-dir', join(folder, 'data'), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for await (const line of createInterface({ input: dev.stdout ?? process.stdin })) {
    const event = JSON.parse(line);
    note('dev', event);
    if (event.event === 'ready') return;
  }
  throw new Error('offsite dev has ended');
}

async function sourceCommands(other: string, spare: string, logged: string, more: string): Promise<void> {
  await offsite('a', 'source import', 'web1', '--disk', `vda=${other}`);
  const imported = (await offsite('a', 'source import', 'spare', '--disk', `vda=${spare}`)) as {
    snapshot: string;
  };
  const log = join(folder, 'vda.log');
  await writeFile(log, logOf([write(0, 1), mark('before update')]));
  await offsite('a', 'source import', 'logged', '--disk', `vda=${logged}`, '--disk', `vdb=${more}`);
  await offsite('a', 'source import-log', 'logged', '--disk', `vda=${log}`);
  await offsite('a', 'source list');
  await offsite('a', 'source space');
  await offsite('a', 'source locks');
  await offsite('a', 'source pins');
  await offsite('a', 'source pin', 'b', 'ab'.repeat(32));
  await offsite('a', 'source unpin', 'b', '--fingerprint', 'ab'.repeat(32));
  await offsite('a', 'source forget', imported.snapshot);
  await offsite('a', 'setup');
}

async function replicaCommands(): Promise<void> {
  await offsite('b', 'replica list');
  await offsite('b', 'replica verify');
  await offsite('b', 'replica space');
  const seed = join(folder, 'data', 'site-b', 'seeds', 'vda.raw');
  await mkdir(dirname(seed), { recursive: true });
  await writeFile(seed, Buffer.alloc(512));
  await offsite('b', 'replica seed', 'brought', '--disk', `vda=${seed}`);
  await offsite('b', 'replica seeds');
  await offsite('b', 'replica unseed', 'brought', 'vda');
  await offsite('b', 'replica recover', 'my-host', '--to', join(folder, 'recovered'));
}

/** Two epochs of a host under continuous data protection. */
async function epochCommands(): Promise<void> {
  const { database: settings } = await loadConfig(join(folder, 'data', 'site-b.yaml'));
  const db = openDatabase({ url: settings.url });
  const site = { db, node: 'b1', replicaRoot: join(folder, 'data', 'site-b', 'replicas') };
  try {
    for (const takenAtMs of [1_700_000_000_000, 1_700_000_100_000]) {
      const disks = { vda: Buffer.alloc(1024 * 1024, 1) };
      const base = await publishBase(site, { host: 'recorded', disks, takenAtMs });
      const timeUs = (takenAtMs + 50) * 1000;
      await publishEpoch(site, {
        ...{ host: 'recorded', base, takenAtMs, endedReason: 'the recorder was stopped' },
        steps: [
          { kind: 'write', timeUs, disk: 'vda', offset: 0, bytes: Buffer.alloc(4096, 2) },
          { kind: 'checkpoint', timeUs, marker: 'before update' },
        ],
      });
    }
  } finally {
    await db.destroy();
  }
  await offsite('b', 'replica list', 'recorded');
  await offsite('b', 'replica markers');
  const at = ['--at', '2023-11-14T22:13:21Z', '--to', join(folder, 'at')];
  await offsite('b', 'replica recover', 'recorded', ...at);
}

/** Files that nobody knows, and a replica that rots. */
async function damageCommands(): Promise<void> {
  type Listed = { host: string; disks: { path: string }[] }[];
  const points = (await offsite('b', 'replica list')) as Listed;
  const path = points.find(({ host }) => host === 'my-host')?.disks[0]?.path ?? '';
  const stray = (digit: string, suffix: string) =>
    join(dirname(path), `${randomUUID()}.${digit.repeat(16)}.qcow2${suffix}`);
  await writeFile(stray('a', '.partial'), 'not whole');
  await writeFile(stray('b', ''), 'whole, for all that is known');
  await offsite('b', 'replica sweep', '--dry-run');
  await offsite('b', 'replica sweep', '--dry-run', '--older-than', '1s');

  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.write(Buffer.from('rot'), 0, 3, size - 4096);
  await file.close();
  await offsite('b', 'replica verify');
  await offsite('b', 'replica list');
  await offsite('b', 'replica verify', '--repair');
}

async function scheduleLooks(): Promise<void> {
  const hours = ['--not-between', '03:00-03:01', '--not-between', '04:00-04:01', '--tz', 'UTC'];
  await offsite(
    'b',
    'schedule create',
    'nohost',
    '--source',
    'a',
    '--host',
    'nohost',
    '--every',
    '1h',
    ...hours,
  );
  for (let shown: unknown = null; (shown as { retry?: unknown } | null)?.retry == null; await sleep(100)) {
    shown = await offsite('b', 'schedule show', 'nohost');
  }
  await offsite('b', 'schedule show', 'my-host');
  await offsite('b', 'schedule list');
  await offsite('b', 'status');
  await offsite('b', 'schedule history', 'my-host');
}

async function scheduleRequests(): Promise<void> {
  const every = (name: string) => [name, '--source', 'a', '--host', 'web1', '--every', '1h'];
  await offsite('b', 'schedule create', ...every('web1'), '--not-between', '03:00-03:01');
  await offsite('b', 'schedule watch', 'web1', '--once');
  await Promise.all([
    offsite('b', 'schedule update', 'web1', '--rpo', '2h'),
    offsite('b', 'schedule run', 'web1'),
    offsite('b', 'schedule resume', 'web1'),
    offsite('b', 'schedule enable', 'web1'),
  ]);
  await offsite('b', 'schedule pause', 'web1');
  await offsite('b', 'schedule delete', 'nohost');
}

async function workerCommand(): Promise<void> {
  const config = join(folder, 'c.yaml');
  await writeConfig(config, {
    site: 'json-c',
    node: 'c1',
    dataDir: 'site-c',
    database: { url: database().url },
    temporal: { address: inject('temporalAddress') },
    source: { imageRoots: [folder], replicaSites: [] },
  });
  const worker = spawn(process.execPath, [STARTER, 'worker', '--json', '--config', config], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(worker, 'close');
  let out = '';
  worker.stdout.on('data', chunk => {
    out += chunk;
    if (out.endsWith('}\n')) worker.kill('SIGTERM');
  });
  expect(await ended).toEqual([0, null]);
  note('worker', JSON.parse(out));
}

/** A machine of QEMU is recorded by the node of {@link workerCommand}, and a mirror is taken from its recorder. */
async function recorderCommands(): Promise<void> {
  const configPath = join(folder, 'c.yaml');
  const guest = await startGuest(join(folder, 'guest'));
  const recorder = startRecorder({ configPath, host: 'recorded', guest });
  const told = (event: string) =>
    vi.waitFor(() => expect(recorder.events).toContainEqual(expect.objectContaining({ event })), 60_000);
  try {
    await told('recording');
    const mark = ['source', 'mark', 'recorded', 'before', '--json'];
    const { out, err } = await runStarter(mark, { OFFSITE_CONFIG: configPath });
    expect(err).toBe('');
    note('source mark', JSON.parse(out));
    const jobs = (await guest.monitor.execute('query-block-jobs')) as { device: string }[];
    for (const { device } of jobs) await guest.monitor.execute('block-job-cancel', { device, force: true });
    await told('waiting');
    note('source record', ...recorder.events);
  } finally {
    await recorder.kill('SIGTERM');
    await guest.close();
  }
}

const io: CliIo = {
  out: text => note('dev', JSON.parse(text)),
  err: () => undefined,
  isTerminal: false,
  columns: () => 80,
  rows: () => 24,
  nowMs: () => 0,
  stopSignal: () => new AbortController().signal,
};

describe('docs/cli-json.md', () => {
  const documented = documentedKeys();

  it('has every command', () => {
    const program = buildProgram(io, () => undefined);
    expect([...documented.keys()].sort()).toEqual(leavesOf(program).sort());
  });

  it.each([...documented.keys()])('has the keys that %s prints, and no others', command => {
    if (command === 'dev') noteSilence();
    const promised = documented.get(command)?.keys ?? new Set();
    const keys = printedKeys(printed.get(command) ?? []);
    // What a command has in common with `schedule show` is compared whole there: here it may be null.
    const isThere = documented.get(command)?.inherits
      ? (key: string) => keys.has(key) || [...keys].some(parent => isBeneath(key, parent))
      : (key: string) => keys.has(key);
    const isPromised = (key: string) => promised.has(key) || [...promised].some(path => isBeneath(path, key));
    expect({
      lacking: [...promised].filter(key => !isThere(key)),
      more: [...keys].filter(key => !isPromised(key)),
    }).toEqual({ lacking: [], more: [] });
  });
});

/** Temporal stays up in this test. */
function noteSilence(): void {
  const context = {
    io,
    json: true,
    config: () => Promise.reject(new Error('not asked for')),
    print: () => {},
  };
  createDevOutput(context).silence(new OffsiteError('TemporalUnreachable', 'no answer', 'Look at it.'));
}

/** The commands without sub-commands: `schedule show`, `dev`. */
const leavesOf = (command: Command, path = ''): string[] =>
  command.commands
    .filter(child => child.name() !== 'help')
    .flatMap(child => {
      const name = `${path}${child.name()}`;
      return child.commands.length === 0 ? [name] : leavesOf(child, `${name} `);
    });
