/** A running machine is recorded: bases, journals and the catalog. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { readReplay, writeReplayImage } from '../../../src/images/cdp/replay.ts';
import { openChain } from '../../../src/images/chain.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  DISK_BYTES,
  type Guest,
  type RecorderProcess,
  STARTER,
  startGuest,
  startRecorder,
  writeRecorderConfig,
} from '../../support/recorded-guest.ts';

const run = promisify(execFile);
const database = useTestDatabase();

interface EpochRow {
  readonly host_snapshot_id: number;
  readonly uuid: string;
  readonly base: string;
  readonly epoch: number;
  readonly newest_checkpoint: number;
  readonly ended_reason: string | null;
}

const epochsOf = async (host: string): Promise<EpochRow[]> =>
  database()
    .db('cdp_epochs as e')
    .join('host_snapshots as hs', 'hs.id', 'e.host_snapshot_id')
    .join('host_snapshots as b', 'b.id', 'e.base_snapshot_id')
    .join('hosts as h', 'h.id', 'hs.host_id')
    .where({ 'h.ident': host })
    .orderBy('e.epoch')
    .select<EpochRow[]>('e.*', 'hs.uuid', 'b.uuid as base');

const filesOf = async (snapshot: string): Promise<{ disk: string; path: string; format: string }[]> =>
  database()
    .db('disk_snapshots as ds')
    .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
    .join('disks as d', 'd.id', 'ds.disk_id')
    .join('snapshot_storages as st', 'st.id', 'ds.storage_id')
    .where({ 'hs.uuid': snapshot })
    .orderBy('d.ident')
    .select('d.ident as disk', 'st.path', 'st.format');

async function withGuest(
  host: string,
  work: (parts: {
    guest: Guest;
    record: (...args: string[]) => RecorderProcess;
    configPath: string;
  }) => Promise<void>,
  journals: Readonly<Record<string, string>> = {},
): Promise<void> {
  const dir = await mkdtemp('/dev/shm/rec-');
  const recorders: RecorderProcess[] = [];
  const guest = await startGuest(dir);
  try {
    const configPath = await writeRecorderConfig(dir, database().url, journals);
    const record = (...args: string[]) => {
      const recorder = startRecorder({ configPath, host, guest, arguments: args });
      recorders.push(recorder);
      return recorder;
    };
    await work({ guest, record, configPath });
  } finally {
    for (const recorder of recorders) await recorder.kill();
    await guest.close();
    await rm(dir, { recursive: true, force: true });
  }
}

/** Restores each disk of an ended epoch at its newest checkpoint, and compares with the overlay chain of the guest. */
async function restored(dir: string, epoch: EpochRow, disk: string): Promise<string> {
  const base = (await filesOf(epoch.base)).find(file => file.disk === disk);
  const journal = (await filesOf(epoch.uuid)).find(file => file.disk === disk);
  const { index } = await readReplay(journal?.path ?? '', {
    virtualSizeBytes: DISK_BYTES,
    untilSequence: epoch.newest_checkpoint,
  });
  const chain = await openChain(base?.path ?? '', { imageRoots: [join(dir, 'images')] });
  const path = join(dir, `${disk}-restored.qcow2`);
  try {
    await writeReplayImage({
      path,
      directory: journal?.path ?? '',
      index,
      base: { name: base?.path ?? '', format: 'qcow2' },
      readBase: (target, offset) => chain.read(target, offset),
    });
  } finally {
    await chain.close();
  }
  return path;
}

describe('a machine with two disks', { timeout: 120_000 }, () => {
  it('is recorded: what base and journal tell is what its disks hold', async () => {
    await withGuest('web1', async ({ guest, record, configPath }) => {
      const recorder = record();
      await recorder.recording();
      expect(await guest.status()).toBe('running');
      await guest.io(
        'vda',
        'write -P 1 4k 12k',
        'write -P 2 1000 3000',
        'write -z 512k 64k',
        'write -P 9 20M 3M',
      );
      await guest.io('vdb', 'write -P 3 0 4k', 'write -P 4 8M 100k', 'discard 1M 64k', 'flush');
      const mark = await run(process.execPath, [
        STARTER,
        '--config',
        configPath,
        '--json',
        'source',
        'mark',
        'web1',
        'before',
      ]);
      expect(JSON.parse(mark.stdout)).toMatchObject({ host: 'web1', name: 'before' });
      await guest.io('vda', 'write -P 5 5M 8k');
      await guest.io('vdb', 'write -P 6 5M 8k');
      await recorder.kill('SIGTERM');
      expect(recorder.errors()).toBe('');
      expect(recorder.process.exitCode).toBe(0);
      expect(await guest.status()).toBe('running');
      await guest.io('vda', 'read -P 5 5M 8k');

      const [epoch] = await epochsOf('web1');
      expect(epoch).toMatchObject({ epoch: 1, ended_reason: 'the recorder was stopped' });
      const overlays = (await filesOf(epoch?.uuid ?? '')).map(({ disk, format }) => [disk, format]);
      expect(overlays).toEqual([
        ['vda', 'cdp'],
        ['vdb', 'cdp'],
      ]);
      const active = JSON.stringify(await guest.monitor.execute('query-block'));
      for (const disk of ['vda', 'vdb'] as const) {
        const path = await restored(guest.dir, epoch as EpochRow, disk);
        const overlay =
          new RegExp(`${guest.images}/web1\\.${disk}\\.[-0-9a-f]+\\.qcow2`).exec(active)?.[0] ?? '';
        await guest.io(disk, 'flush');
        expect(await identicalForced(path, overlay), disk).toBe(true);
      }
    });
  });

  it('rolls over by size into an epoch whose base stands on the last one', async () => {
    await withGuest(
      'web2',
      async ({ guest, record }) => {
        const recorder = record();
        await recorder.recording();
        await guest.io('vda', 'write -P 8 4M 3M', 'flush');
        await recorder.recording(2);
        await guest.io('vda', 'write -P 9 4M 64k', 'read -P 9 4M 64k');
        await recorder.kill('SIGTERM');
        const epochs = await epochsOf('web2');
        expect(epochs.map(({ epoch, ended_reason: reason }) => [epoch, reason])).toEqual([
          [1, expect.stringMatching(/^rolled over at \d+ bytes$/)],
          [2, 'the recorder was stopped'],
        ]);
        expect(epochs.every(({ newest_checkpoint: newest }) => newest > 0)).toBe(true);
        const { rows } = await database().db.raw(
          `select p.uuid from disk_snapshots ds join host_snapshots hs on hs.id = ds.host_snapshot_id
           join disk_snapshots pd on pd.id = ds.parent_id join host_snapshots p on p.id = pd.host_snapshot_id
           where hs.uuid = ?`,
          [epochs[1]?.base ?? ''],
        );
        expect(rows).toEqual([{ uuid: epochs[0]?.base }, { uuid: epochs[0]?.base }]);
      },
      { rollOverAt: '2MiB' },
    );
  });
});

/** QEMU has the overlay open: without locks. */
async function identicalForced(left: string, right: string): Promise<boolean> {
  const image = (path: string) => `driver=qcow2,file.filename=${path},file.locking=off`;
  try {
    await run('qemu-img', ['compare', '-U', '--image-opts', image(left), image(right)]);
    return true;
  } catch (error) {
    console.error(
      (error as { stdout?: string; stderr?: string }).stdout,
      (error as { stderr?: string }).stderr,
    );
    return false;
  }
}
