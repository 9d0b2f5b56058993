/**
 * Restores a host by thin overlays of journals of 1 000 000 records of 4 KiB, two disks, beside a plain sequential read of
 * the same files in the same run. `npm run bench:cdp-restore -- [folder [runs]]`; it needs 12 GB there.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { JournalWriter } from '../src/images/cdp/journal-writer.ts';
import { restoreDisk } from '../src/images/cdp/restore-disk.ts';

const RECORDS_A_DISK = 500_000;
const BLOCK_BYTES = 4096;
const DISK_BYTES = 8 * 1024 ** 3;
/** Writes of a guest meet again: this part of the disk is written to. */
const HOT_BYTES = 1024 ** 3;
const EPOCH = '0b9ff0cf-2c2a-4f0e-9a36-5f0a4f9f2a11';
const DISKS = ['vda', 'vdb'];
const MIB = 1024 ** 2;

const identityOf = (disk: string) => ({ epoch: EPOCH, host: 'h', disk, virtualSizeBytes: DISK_BYTES });

async function makeJournal(directory: string, disk: string): Promise<number> {
  const options = { directory, identity: identityOf(disk), segmentBytes: 256 * MIB };
  const writer = await JournalWriter.create(options, { sequence: 0, timeUs: 0 });
  const bytes = Buffer.alloc(BLOCK_BYTES + 4096, 0xa5);
  let state = 88_172_645;
  let waiting: Promise<void>[] = [];
  for (let sequence = 1; sequence <= RECORDS_A_DISK; sequence += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const offset = Math.floor((state / 2 ** 32) * (HOT_BYTES / BLOCK_BYTES)) * BLOCK_BYTES;
    const payload = Buffer.from(bytes.subarray(state % 4096, (state % 4096) + BLOCK_BYTES));
    payload.writeUInt32LE(sequence, 0);
    const record = {
      type: 'write' as const,
      sequence,
      timeUs: sequence,
      offset,
      length: BLOCK_BYTES,
      payload,
    };
    waiting.push(writer.append(record));
    if (waiting.length < 250) continue;
    await Promise.all(waiting);
    waiting = [];
  }
  await Promise.all(waiting);
  const sequence = RECORDS_A_DISK + 1;
  const payload = Buffer.alloc(0);
  await writer.append({ type: 'checkpoint', sequence, timeUs: sequence, offset: 0, length: 0, payload });
  await writer.close();
  return sequence;
}

/** Reads every file of a folder from start to end. @returns how many bytes */
async function readAll(directory: string): Promise<number> {
  const buffer = Buffer.allocUnsafe(4 * MIB);
  let total = 0;
  for (const name of (await readdir(directory)).sort()) {
    const file = await open(join(directory, name), 'r');
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length);
      if (bytesRead === 0) break;
      total += bytesRead;
    }
    await file.close();
  }
  return total;
}

interface Restored {
  readonly ms: number;
  readonly cpuMs: number;
  readonly maxRssBytes: number;
}

/** In a process of its own, as the command line's: its memory is that of a restore alone. */
async function restore(root: string, run: number): Promise<void> {
  const startMs = performance.now();
  for (const disk of DISKS) {
    await restoreDisk({
      ...{
        path: join(root, `${disk}-${run}.qcow2`),
        directory: join(root, disk),
        identity: identityOf(disk),
      },
      ...{
        checkpoint: RECORDS_A_DISK + 1,
        basePath: join(root, 'base.qcow2'),
        chain: { imageRoots: [root] },
      },
    });
  }
  const ms = performance.now() - startMs;
  const { user, system } = process.cpuUsage();
  const cpuMs = (user + system) / 1000;
  const restored: Restored = { ms, cpuMs, maxRssBytes: process.resourceUsage().maxRSS * 1024 };
  process.stdout.write(JSON.stringify(restored));
}

async function main(folder: string, runs: number): Promise<void> {
  const run = promisify(execFile);
  const root = await mkdtemp(join(folder, 'offsite-bench-'));
  try {
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', join(root, 'base.qcow2'), String(DISK_BYTES)]);
    for (const disk of DISKS) await makeJournal(join(root, disk), disk);
    for (let number = 1; number <= runs; number += 1) {
      const startMs = performance.now();
      let bytes = 0;
      for (const disk of DISKS) bytes += await readAll(join(root, disk));
      const readMs = performance.now() - startMs;
      const { stdout } = await run(process.execPath, [
        fileURLToPath(import.meta.url),
        '--restore',
        root,
        `${number}`,
      ]);
      const { ms, cpuMs, maxRssBytes } = JSON.parse(stdout) as Restored;
      const [seconds, readSeconds] = [ms, readMs].map(value => (value / 1000).toFixed(2));
      process.stdout.write(
        `restore ${seconds} s (${(cpuMs / 1000).toFixed(2)} s of CPU), plain read ${readSeconds} s (${(bytes / MIB).toFixed(0)} MiB), ` +
          `ratio ${(ms / readMs).toFixed(1)}, ${(maxRssBytes / MIB).toFixed(0)} MiB of memory\n`,
      );
      for (const disk of DISKS) {
        await run('qemu-img', ['check', '-q', '-f', 'qcow2', join(root, `${disk}-${number}.qcow2`)]);
        await rm(join(root, `${disk}-${number}.qcow2`));
      }
    }
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

const [first = tmpdir(), second = '3', number = '1'] = process.argv.slice(2);
await (first === '--restore' ? restore(second, Number(number)) : main(first, Number(second)));
