/**
 * 4 KiB writes to the recorder's export beside the same writes to qemu-nbd over a raw file, in turns of one run:
 *   node bench/recorder.ts [WRITES]
 * Prints writes a second at queue depth 1 and 16, medians, and their ratio. The recorder is this process, its journal in
 * the same folder as the raw file (TMPDIR); the load is `qemu-img bench`. Needs qemu-utils.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { NbdServer } from '../src/capture/nbd/server.ts';
import { openJournals } from '../src/sites/recorder-journals.ts';

const run = promisify(execFile);
const SIZE = 1024 * 1024 * 1024;
const TURNS = 3;
/** Not neighbours, and no block twice in a row. */
const STEP_BYTES = 1_052_672;
const count = Number(process.argv[2] ?? 10_000);

const work = mkdtempSync(join(tmpdir(), 'offsite-bench-'));
const raw = join(work, 'disk.raw');
const sockets = { recorder: join(work, 'r.sock'), qemuNbd: join(work, 'q.sock') };
await run('qemu-img', ['create', '-q', '-f', 'raw', raw, String(SIZE)]);
const baseline = spawn('qemu-nbd', ['-t', '-f', 'raw', '-x', 'vda', '-k', sockets.qemuNbd, raw], {
  stdio: 'inherit',
});
const disk = { disk: 'vda', device: 'vda', node: 'vda', path: raw, virtualSizeBytes: SIZE };
const journals = await openJournals({
  host: 'bench',
  epoch: '0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11',
  directory: join(work, 'epoch'),
  segmentBytes: 64 * 1024 * 1024,
  imageRoots: [work],
  disks: [disk],
  onFailure: error => {
    throw error;
  },
});
const server = await NbdServer.listen({ socketPath: sockets.recorder, exports: journals.disks });
try {
  while (!existsSync(sockets.qemuNbd)) await sleep(20);
  for (const depth of [1, 16]) {
    const rates = { recorder: [] as number[], qemuNbd: [] as number[] };
    for (let turn = 0; turn < TURNS; turn += 1) {
      rates.qemuNbd.push(await writesPerSecond(sockets.qemuNbd, depth));
      rates.recorder.push(await writesPerSecond(sockets.recorder, depth));
    }
    const [ours, theirs] = [median(rates.recorder), median(rates.qemuNbd)];
    process.stdout.write(
      `queue depth ${depth}: recorder ${ours.toFixed(0)}, qemu-nbd ${theirs.toFixed(0)} writes/s, ` +
        `ratio ${(ours / theirs).toFixed(2)}; rss ${Math.round(process.memoryUsage().rss / 1e6)} MB\n`,
    );
  }
} finally {
  await server.close();
  for (const one of journals.disks) await one.close();
  baseline.kill('SIGTERM');
  rmSync(work, { recursive: true, force: true });
}

async function writesPerSecond(socket: string, depth: number): Promise<number> {
  const options = ['-w', '-f', 'raw', '-t', 'none', '-s', '4096', '-S', String(STEP_BYTES)];
  const target = `nbd+unix:///vda?socket=${socket}`;
  const { stdout } = await run('qemu-img', [
    'bench',
    ...options,
    '-c',
    String(count),
    '-d',
    String(depth),
    target,
  ]);
  const seconds = Number(/completed in ([\d.]+) seconds/.exec(stdout)?.[1]);
  return count / seconds;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] as number;
}
