/** A catalog whose own file system is full: a tablespace on a tmpfs of a few MiB. */
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chown, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { migrate, openDatabase } from '../../../src/catalog/database.ts';
import { createReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { chooseFreePorts } from '../../../src/dev/ports.ts';
import { postgresUrl } from '../../../src/dev/postgres-server.ts';
import { type Supervisor, startSupervisor } from '../../../src/dev/supervisor.ts';
import { fresh, newSchedule, SETTINGS, specOf } from './fixtures.ts';

const run = promisify(execFile);
let dataDir: string;
let mount: string;
let supervisor: Supervisor;
let url: string;

/** A server of its own: one with a full tablespace cannot make checkpoints, which others would feel. */
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'offsite-full-'));
  mount = await mkdtemp(join(tmpdir(), 'offsite-small-'));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', mount]);
  const [port = 0] = await chooseFreePorts(1);
  supervisor = await startSupervisor({
    dataDir,
    removeDataDirAtEnd: true,
    services: [{ kind: 'postgres', name: 'postgres', port, databases: ['admin'] }],
  });
  const admin = new pg.Client({ connectionString: postgresUrl(dataDir, port, 'admin') });
  await admin.connect();
  const { rows } = await admin.query<{ folder: string }>(
    `select current_setting('data_directory') as folder`,
  );
  const { uid, gid } = await stat(rows[0]?.folder ?? '/');
  const folder = join(mount, 'space');
  await mkdir(folder);
  for (const path of [mount, folder]) await chown(path, uid, gid);
  await admin.query(`create tablespace small location '${folder}'`);
  await admin.query('create database small tablespace small');
  await admin.end();
  url = postgresUrl(dataDir, port, 'small');
}, 120_000);

afterAll(async () => {
  await supervisor?.stop();
  await run('umount', [mount]);
  await rm(mount, { recursive: true });
});

it('says that PostgreSQL has no room, keeps what it had, and goes on when there is room', async () => {
  const db = openDatabase({ url });
  try {
    await migrate(db);
    const catalog = createReplicaCatalog(db, { site: 'b', replicaRoot: '/replicas' });
    const before = await newSchedule(catalog);
    // What is free within the tables' own pages is filled by rows, the rest by ballast.
    await expect(writeFile(join(mount, 'ballast'), Buffer.alloc(64 * 1024 * 1024))).rejects.toThrow('ENOSPC');
    const settings = { ...SETTINGS, timeZone: 'x'.repeat(6_000) };
    const fill = async () => {
      for (let count = 0; count < 1_000; count += 1) {
        const spec = specOf({ name: fresh('full'), host: fresh('full') });
        await catalog.registerSchedule({ spec, settings, paused: false });
      }
    };
    await expect(fill()).rejects.toMatchObject({
      code: 'DatabaseFull',
      message: expect.stringContaining('No space left on device'),
    });
    await rm(join(mount, 'ballast'));
    const after = await newSchedule(catalog);
    for (const { uuid: scheduleUuid } of [before, after]) {
      const task = await catalog.createEmptyTask({ scheduleUuid, taskUuid: randomUUID() });
      expect(task.generation).toBe(1);
    }
  } finally {
    await db.destroy();
  }
});
