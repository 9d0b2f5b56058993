/** Logs that QEMU's blklogwrites wrote become an epoch whose states are those that QEMU made. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SiteConfig } from '../../../src/config/site-config.ts';
import { OffsiteError } from '../../../src/domain/errors.ts';
import { readReplay, writeReplayImage } from '../../../src/images/cdp/replay.ts';
import { LogWrites } from '../../../src/images/log-writes/log-writes.ts';
import { openSourceInventory } from '../../../src/sites/source-inventory.ts';
import { useTestDatabase } from '../../support/database.ts';
import { interrupted } from '../../support/faults/interrupted.ts';
import { entry, logOf, mark, SECTOR, write } from '../../support/log-writes.ts';
import { qemuIdentical, qemuImg } from '../../support/qemu.ts';

const run = promisify(execFile);
const SIZE = 4 * 1024 * 1024;
const database = useTestDatabase();
let root: string;
let config: SiteConfig;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'offsite-test-'));
  config = {
    ...{
      site: 'a',
      node: 'a1',
      dataDir: join(root, 'data'),
      database: { url: database().url },
      temporal: {},
    },
    ...{ logLevel: 'info', source: { imageRoots: [root], replicaSites: [] } },
  };
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function withInventory<T>(use: (on: Awaited<ReturnType<typeof openSourceInventory>>) => Promise<T>) {
  const inventory = await openSourceInventory(config);
  try {
    return await use(inventory);
  } finally {
    await inventory.close();
  }
}

interface LoggedHost {
  readonly host: string;
  /** Of each disk the base's image, what QEMU made of it (raw), and the log. */
  readonly base: Record<string, string>;
  readonly after: Record<string, string>;
  readonly logs: Record<string, string>;
}

/** Registers a host and lets QEMU write to copies of its disks through blklogwrites. */
async function loggedHost(writes: Readonly<Record<string, readonly string[]>>): Promise<LoggedHost> {
  const host = `host-${randomUUID().slice(0, 8)}`;
  const folder = join(root, host);
  await mkdir(folder);
  const made: LoggedHost = { host, base: {}, after: {}, logs: {} };
  for (const [disk, commands] of Object.entries(writes)) {
    const after = join(folder, `${disk}.raw`);
    await writeFile(after, Buffer.alloc(SIZE, 0x55));
    const base = join(folder, `${disk}.qcow2`);
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', after, base);
    const log = join(folder, `${disk}.log`);
    await writeFile(log, '');
    const options = `driver=blklogwrites,file.driver=raw,file.file.driver=file,file.file.filename=${after},log.driver=file,log.filename=${log}`;
    await run('qemu-io', ['--image-opts', options, ...commands.flatMap(command => ['-c', command])]);
    Object.assign(made.base, { [disk]: base });
    Object.assign(made.after, { [disk]: after });
    Object.assign(made.logs, { [disk]: log });
  }
  const disks = Object.entries(made.base).map(([disk, path]) => ({ disk, path }));
  await withInventory(on => on.importSnapshot({ host, disks, takenAt: '2026-11-24T02:00:00.000Z' }));
  return made;
}

const importLogs = ({ host, logs }: Pick<LoggedHost, 'host' | 'logs'>) =>
  withInventory(on =>
    on.importLogs({ host, disks: Object.entries(logs).map(([disk, path]) => ({ disk, path })) }),
  );
type Imported = Awaited<ReturnType<typeof importLogs>>;

/** The state of a disk at a checkpoint, as an overlay. */
async function stateAt(
  made: LoggedHost,
  imported: Imported,
  disk: string,
  checkpoint: number,
): Promise<string> {
  const directory = imported.disks.find(found => found.disk === disk)?.path ?? '';
  const { index, checkpoint: found } = await readReplay(directory, {
    virtualSizeBytes: SIZE,
    untilSequence: checkpoint,
  });
  expect(found?.sequence).toBe(checkpoint);
  const path = join(root, made.host, `${disk}-${randomUUID()}.qcow2`);
  const base = await readFile(made.after[disk] ?? '').then(bytes => Buffer.alloc(bytes.length, 0x55));
  await writeReplayImage({
    ...{ path, directory, index, base: { name: made.base[disk] ?? '', format: 'qcow2' } },
    readBase: async (target, offset) => void base.copy(target, 0, offset, offset + target.length),
  });
  return path;
}

describe('the logs of two disks', () => {
  it('become an ended epoch on the newest snapshot; its newest checkpoint is what QEMU made of both', async () => {
    const made = await loggedHost({
      vda: ['write -P 1 0 4k', 'write -P 2 1536 1k', 'flush', 'write -f -P 3 8k 4k', 'write -z 128k 64k'],
      vdb: ['write -P 4 1M 1M', 'write -P 5 1028k 512', 'discard 2M 64k', 'write -P 6 3M 1M', 'flush'],
    });
    const [snapshot] = await withInventory(on => on.listSnapshots({ host: made.host }));
    const imported = await importLogs(made);
    expect(imported).toMatchObject({ base: snapshot?.snapshot, epoch: 1, checkpoints: 1, warnings: [] });
    for (const disk of ['vda', 'vdb']) {
      const path = await stateAt(made, imported, disk, imported.newestCheckpoint);
      expect(await qemuIdentical(made.after[disk] ?? '', path, ['raw', 'qcow2'])).toBe(true);
    }
    const kinds = (await withInventory(on => on.listSnapshots({ host: made.host }))).map(({ kind }) => kind);
    expect(kinds).toEqual(['qcow2', 'cdp']);
    const epoch = await database()
      .db('cdp_epochs as e')
      .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
      .where('hs.uuid', imported.snapshot)
      .first();
    expect(epoch).toMatchObject({ newest_checkpoint: imported.newestCheckpoint, ended_at: expect.any(Date) });
    // On an epoch nothing can be put: what the log begins with must be images.
    await expect(importLogs(made)).rejects.toMatchObject({ code: 'NoBaseSnapshot' });
  }, 120_000);

  it('have marks in common, which are markers of the host and states of both', async () => {
    const made = await loggedHost({ vda: ['flush'], vdb: ['flush'] });
    await writeFile(
      made.logs.vda ?? '',
      logOf([
        ...[
          write(0, 1),
          mark('alone'),
          mark('first'),
          write(0, 2),
          mark('twice'),
          write(8, 3),
          mark('twice'),
          write(0, 9),
        ],
      ]),
    );
    await writeFile(
      made.logs.vdb ?? '',
      logOf([
        ...[write(16, 4), mark('first'), mark('twice'), write(16, 5, 1), mark('twice'), entry(16, 8, 4)],
      ]),
    );
    const imported = await importLogs(made);
    expect(imported.markers.map(({ name }) => name)).toEqual(['first', 'twice', 'twice']);
    expect(imported).toMatchObject({
      checkpoints: 4,
      warnings: ['1 marks are not in all logs and were left out'],
    });
    const expected: [Record<number, number>, Record<number, number>][] = [
      [{ 0: 1 }, { 16: 4 }],
      [{ 0: 2 }, { 16: 4 }],
      [{ 0: 2, 8: 3 }, { 16: 5 }],
      [{ 0: 9, 8: 3 }, { 16: 0 }],
    ];
    const all = [...imported.markers.map(({ checkpoint }) => checkpoint), imported.newestCheckpoint];
    for (const [index, checkpoint] of all.entries()) {
      for (const [at, disk] of ['vda', 'vdb'].entries()) {
        const content = Buffer.alloc(SIZE, 0x55);
        for (const [sector, fill] of Object.entries(expected[index]?.[at] ?? {})) {
          content.fill(fill, Number(sector) * SECTOR, Number(sector) * SECTOR + 4096);
        }
        await writeFile(join(root, 'expected.raw'), content);
        const path = await stateAt(made, imported, disk, checkpoint);
        expect(await qemuIdentical(join(root, 'expected.raw'), path, ['raw', 'qcow2'])).toBe(true);
      }
    }
    const rows = await database()
      .db('cdp_markers')
      .orderBy('marked_at')
      .select('name', 'sequence', 'marked_at');
    expect(rows.map(({ name }) => name)).toEqual(['first', 'twice', 'twice']);
    expect(new Set(rows.map(({ marked_at: at }) => at.getTime())).size).toBe(3);
  }, 120_000);
});

it('of a single log each flush is a checkpoint; a disk without a log stays as it is, and is told', async () => {
  const made = await loggedHost({
    vda: ['write -P 1 0 4k', 'flush', 'write -P 2 0 4k', 'write -f -P 3 8k 4k', 'write -P 4 16k 4k'],
    vdb: ['flush'],
  });
  const imported = await importLogs({ host: made.host, logs: { vda: made.logs.vda ?? '' } });
  expect(imported.warnings).toEqual(['disk vdb has no log: it stays as it is in the base']);
  expect(imported.checkpoints).toBeGreaterThanOrEqual(3);
  const path = await stateAt(made, imported, 'vdb', imported.newestCheckpoint);
  expect(await qemuIdentical(made.after.vdb ?? '', path, ['raw', 'qcow2'])).toBe(true);
  const newest = await stateAt(made, imported, 'vda', imported.newestCheckpoint);
  expect(await qemuIdentical(made.after.vda ?? '', newest, ['raw', 'qcow2'])).toBe(true);
}, 120_000);

/** Reads all of a log: what it gives is within the disk and the log, or it is refused. */
async function readBounded(path: string, logBytes: number): Promise<void> {
  let log: LogWrites | null = null;
  try {
    log = await LogWrites.open(path, SIZE);
    for await (const found of log.entries()) {
      if (found.kind === 'mark') expect(Buffer.byteLength(found.name)).toBeLessThanOrEqual(255);
      else if (found.kind !== 'flush') expect(found.offset + found.length).toBeLessThanOrEqual(SIZE);
      if (found.kind === 'write') expect(found.hostOffset + found.length).toBeLessThanOrEqual(logBytes);
    }
  } catch (error) {
    if (!(error instanceof OffsiteError)) throw error;
    expect(error.code).toBe('LogInvalid');
  } finally {
    await log?.close();
  }
}

describe('a log that is none', () => {
  const refused: readonly [string, () => Buffer, RegExp][] = [
    ['an empty file', () => Buffer.alloc(0), /no log of writes/],
    ['other bytes', () => Buffer.alloc(4096, 7), /no log of writes/],
    [
      'of another version',
      () => {
        const log = logOf([]);
        log.writeUInt8(2, 8);
        return log;
      },
      /version is 2/,
    ],
    [
      'of odd sectors',
      () => {
        const log = logOf([]);
        log.writeUInt32LE(513, 24);
        return log;
      },
      /513 bytes/,
    ],
    ['with more entries than fit', () => logOf([write(0, 1)], 1_000_000), /1000000 entries/],
    ['that is cut', () => logOf([write(0, 1), write(0, 1)]).subarray(0, 9000), /entry 1 goes beyond the end/],
    ['that writes beyond the disk', () => logOf([write(SIZE / SECTOR, 1)]), /entry 0 goes to byte/],
    ['with huge numbers', () => logOf([entry(Number.MAX_SAFE_INTEGER, 2 ** 50, 4)]), /entry 0 goes to byte/],
    ['with unknown flags', () => logOf([entry(0, 0, 64)]), /flags 64/],
    ['with a mark that has no name', () => logOf([entry(0, 0, 8)]), /name of 0 bytes/],
    ['with a mark that moves the cursor', () => logOf([mark('a\u001b[2J')]), /no plain text/],
    ['with a mark of a page', () => logOf([mark('m'.repeat(4000))]), /name of 4000 bytes/],
  ];

  it.each(refused)('%s is refused by name, and leaves nothing', async (_name, bytes, fault) => {
    const made = await loggedHost({ vda: ['flush'] });
    await writeFile(made.logs.vda ?? '', bytes());
    await expect(importLogs(made)).rejects.toMatchObject({
      code: 'LogInvalid',
      message: expect.stringMatching(fault),
    });
    expect(await readdir(join(root, 'data', 'journals', made.host))).toEqual([]);
    expect(await withInventory(on => on.listSnapshots({ host: made.host }))).toHaveLength(1);
  });

  it('is a disk of another host, or marks in another order', async () => {
    const made = await loggedHost({ vda: ['flush'], vdb: ['flush'] });
    const other = { host: made.host, logs: { sda: made.logs.vda ?? '' } };
    await expect(importLogs(other)).rejects.toMatchObject({ code: 'LoggedDiskUnknown' });
    await expect(importLogs({ ...made, host: 'nobody' })).rejects.toMatchObject({ code: 'NoBaseSnapshot' });
    await writeFile(made.logs.vda ?? '', logOf([mark('a'), mark('b')]));
    await writeFile(made.logs.vdb ?? '', logOf([mark('b'), mark('a')]));
    await expect(importLogs(made)).rejects.toMatchObject({ code: 'LogInvalid' });
  });

  it('whatever its bytes, is read within its bounds or refused', async () => {
    const path = join(root, 'mutated.log');
    const whole = logOf([
      write(0, 1),
      mark('m'),
      entry(0, 8, 4),
      entry(0, 0, 1),
      write(8, 2, 2),
      write(16, 3),
    ]);
    const changes = fc.array(
      fc.record({
        at: fc.nat(whole.length - 1),
        value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 128, 255)),
      }),
      { minLength: 1, maxLength: 8 },
    );
    // Most of a log is data; what matters is in the heads.
    const heads = changes.map(list =>
      list.map(({ at, value }) => ({ at: (at % 16) * SECTOR + (at % 41), value })),
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(changes, heads), fc.nat(whole.length), async (list, length) => {
        const bytes = Buffer.from(whole);
        for (const { at, value } of list) if (at < bytes.length) bytes[at] = value;
        await writeFile(path, length % 3 === 0 ? bytes.subarray(0, length) : bytes);
        await readBounded(path, bytes.length);
      }),
      { numRuns: 500 },
    );
  }, 60_000);
});

describe('an import', () => {
  it.each([
    'source.import.mkdir',
    'source.import.syncDirectory',
    'journal.records.write',
    'source.commit.registerEndedEpoch',
  ] as const)(
    'that fails at %s leaves an epoch that is whole, or none, and can be done again',
    async point => {
      const hosts: LoggedHost[] = [];
      const last = await interrupted(point, async () => {
        const made = await loggedHost({ vda: ['write -P 1 0 4k'] });
        hosts.push(made);
        return importLogs(made);
      });
      expect(last.checkpoints).toBe(1);
      for (const made of hosts) {
        const { rows } = await database().db.raw(
          `select e.newest_checkpoint, e.ended_at is not null as ended from cdp_epochs e
         join host_snapshots hs on hs.id = e.host_snapshot_id join hosts h on h.id = hs.host_id where h.ident = ?`,
          [made.host],
        );
        if (rows.length === 0) await importLogs(made);
        else expect(rows).toEqual([{ newest_checkpoint: last.newestCheckpoint, ended: true }]);
      }
    },
    120_000,
  );

  it('that died leaves a folder, which goes a day later; one that failed leaves none', async () => {
    const made = await loggedHost({ vda: ['write -P 1 0 4k'] });
    const folder = join(root, 'data', 'journals', made.host);
    const left = join(folder, `import-${randomUUID()}`);
    await interrupted('source.import.removeLeft', async () => {
      await mkdir(left, { recursive: true });
      await utimes(left, 1, 1);
      // A log that is refused, so that the snapshot stays the newest.
      await writeFile(join(folder, 'bad.log'), 'x');
      await importLogs({ host: made.host, logs: { vda: join(folder, 'bad.log') } }).catch(() => undefined);
    });
    expect(await readdir(folder)).toEqual(['bad.log']);
    await interrupted('source.import.removeFailed', async () => {
      await importLogs({ host: made.host, logs: { vda: join(folder, 'bad.log') } }).catch(() => undefined);
    });
    const names = (await readdir(folder)).filter(name => name !== 'bad.log');
    for (const name of names) await utimes(join(folder, name), 1, 1);
    await importLogs(made);
    expect((await readdir(folder)).filter(name => name.startsWith('import-'))).toHaveLength(1);
  }, 120_000);

  it('does not touch its log', async () => {
    const made = await loggedHost({ vda: ['write -P 1 0 4k'] });
    const copy = join(root, 'copy.log');
    await copyFile(made.logs.vda ?? '', copy);
    await importLogs(made);
    expect(await readFile(made.logs.vda ?? '')).toEqual(await readFile(copy));
    await truncate(copy, 0);
  });
});
