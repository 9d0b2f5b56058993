/** The recorder's exports against the clients that people use: what they read is base and journal. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { NbdServer } from '../../src/capture/nbd/server.ts';
import { readReplay, writeReplayImage } from '../../src/images/cdp/replay.ts';
import { openChain } from '../../src/images/chain.ts';
import { openJournals } from '../../src/sites/recorder-journals.ts';
import { qemuIdentical, qemuImg, qemuIo } from '../support/qemu.ts';
import { withMemoryDir } from '../unit/images/replica-fixtures.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const SIZE = 12 * MIB + 512;
const EPOCH = '0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11';

async function exported(
  work: (parts: {
    dir: string;
    base: string;
    uri: string;
    end: () => Promise<{ journal: string; sequence: number }>;
  }) => Promise<void>,
): Promise<void> {
  await withMemoryDir(async dir => {
    const base = join(dir, 'base.qcow2');
    await qemuImg('create', '-q', '-f', 'qcow2', base, String(SIZE));
    await qemuIo(base, ['write -P 17 0 1M', 'write -P 34 8M 64k']);
    const failures: unknown[] = [];
    const journals = await openJournals({
      host: 'web1',
      epoch: EPOCH,
      directory: join(dir, 'epoch'),
      segmentBytes: 2 * MIB,
      imageRoots: [dir],
      disks: [{ disk: 'vda', device: 'vda', node: 'node-vda', path: base, virtualSizeBytes: SIZE }],
      onFailure: error => failures.push(error),
    });
    const socketPath = join(dir, 'nbd.sock');
    const server = await NbdServer.listen({ socketPath, exports: journals.disks });
    let isClosed = false;
    const close = async () => {
      if (isClosed) return;
      isClosed = true;
      await server.close();
      for (const disk of journals.disks) await disk.close();
    };
    try {
      const end = async () => {
        const [disk] = journals.disks;
        const tick = journals.clock.next();
        await disk?.journal.append({
          type: 'checkpoint',
          ...tick,
          offset: 0,
          length: 0,
          payload: Buffer.alloc(0),
        });
        await close();
        return { journal: journals.directoryOf('vda'), sequence: tick.sequence };
      };
      await work({ dir, base, uri: `nbd+unix:///vda?socket=${socketPath}`, end });
      expect(failures).toEqual([]);
    } finally {
      await close();
    }
  });
}

describe("a recorder's export", { timeout: 120_000 }, () => {
  it('is read by nbdinfo, nbdcopy, qemu-img convert and compare', async () => {
    await exported(async ({ dir, base, uri }) => {
      const { stdout } = await run('nbdinfo', ['--json', uri]);
      expect(JSON.parse(stdout).exports[0]).toMatchObject({
        'export-size': SIZE,
        can_flush: true,
        can_fua: true,
      });
      await run('nbdcopy', [uri, join(dir, 'copy.raw')]);
      expect(await qemuIdentical(base, join(dir, 'copy.raw'), ['qcow2', 'raw'])).toBe(true);
      await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', uri, join(dir, 'copy.qcow2'));
      expect(await qemuIdentical(base, join(dir, 'copy.qcow2'))).toBe(true);
      expect(await qemuIdentical(base, uri, ['qcow2', 'raw'])).toBe(true);
    });
  });

  it('reads what qemu-io and nbdcopy wrote, over many segments, and so does a replay of its journal', async () => {
    await exported(async ({ dir, base, uri, end }) => {
      const io = (...commands: string[]) =>
        run('qemu-io', ['-f', 'raw', ...commands.flatMap(command => ['-c', command]), uri]);
      const first = await io(
        'write -P 1 1000 3000',
        'read -P 1 1000 3000',
        'read -P 17 0 1000',
        'write -z 8M 4k',
        'read -P 0 8M 4k',
      );
      expect(first.stdout).not.toMatch(/failed/);
      const content = randomBytes(SIZE);
      await writeFile(join(dir, 'new.raw'), content);
      await run('nbdcopy', ['--connections=4', '--flush', join(dir, 'new.raw'), uri]);
      const second = await io(
        'write -f -P 9 5M 12345',
        'discard 6M 1M',
        'read -P 0 6M 1M',
        'flush',
        'write -P 3 12M 512',
      );
      expect(second.stdout).not.toMatch(/failed/);
      content
        .fill(9, 5 * MIB, 5 * MIB + 12_345)
        .fill(0, 6 * MIB, 7 * MIB)
        .fill(3, 12 * MIB);
      await run('nbdcopy', [uri, join(dir, 'back.raw')]);
      expect((await readFile(join(dir, 'back.raw'))).equals(content)).toBe(true);

      const { journal, sequence } = await end();
      const { index } = await readReplay(journal, { virtualSizeBytes: SIZE, untilSequence: sequence });
      const chain = await openChain(base, { imageRoots: [dir] });
      const path = join(dir, 'restored.qcow2');
      const readBase = (target: Buffer, offset: number) => chain.read(target, offset);
      await writeReplayImage({
        path,
        directory: journal,
        index,
        base: { name: base, format: 'qcow2' },
        readBase,
      });
      await chain.close();
      expect(await qemuIdentical(path, join(dir, 'back.raw'), ['qcow2', 'raw'])).toBe(true);
    });
  });
});
