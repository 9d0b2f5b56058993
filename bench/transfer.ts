/**
 * How fast one disk goes from A to B, beside what else copies an image on this machine in the same run:
 *   node bench/transfer.ts [SIZE_MIB]
 * The sender and the receiver are processes of their own, over mutual TLS on loopback, with durable files.
 * Prints wall and CPU seconds of each way and the ratio to `cp`. Needs qemu-utils.
 */
import { execFileSync, fork } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLayerSource } from '../src/images/layer-source.ts';
import { proveChain } from '../src/images/proof.ts';
import { loadIdentity } from '../src/transfer/identity.ts';
import { sendLayer } from '../src/transfer/sender.ts';
import { createThrottle } from '../src/transfer/throttle.ts';
import { type BenchOffer, DISK_TASK, EPOCH, QUIET } from './transfer-receiver.ts';

const MIB = 1024 * 1024;
const RUNS = 3;

interface Timing {
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

const sizeMib = Number(process.argv[2] ?? 1024);
const work = mkdtempSync(join(tmpdir(), 'offsite-bench-'));
try {
  const image = makeImage();
  const ways: Record<string, () => Promise<Timing>> = {
    cp: () => timedCommand('cp', [image, join(work, 'cp.qcow2')]),
    'cp, then sync': () =>
      timedCommand('sh', ['-c', `cp ${image} ${work}/cp.qcow2 && sync ${work}/cp.qcow2`]),
    'qemu-img convert': () =>
      timedCommand('qemu-img', ['convert', '-O', 'qcow2', image, join(work, 'convert.qcow2')]),
    offsite: () => offsite(image),
  };
  const results = new Map<string, Timing[]>(Object.keys(ways).map(name => [name, []]));
  for (let run = 0; run < RUNS; run += 1) {
    for (const [name, way] of Object.entries(ways)) results.get(name)?.push(await way());
  }
  print(results);
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** A disk full of bytes that nothing can compress. */
function makeImage(): string {
  const raw = join(work, 'disk.raw');
  const file = openSync(raw, 'w');
  const block = Buffer.alloc(MIB);
  for (let at = 0; at < sizeMib; at += 1) writeSync(file, randomFillSync(block));
  const image = join(work, 'disk.qcow2');
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
  rmSync(raw);
  return image;
}

async function timedCommand(command: string, args: string[]): Promise<Timing> {
  const startedAt = performance.now();
  // `times` in a shell tells the CPU time of its children.
  const script = `"$0" "$@" && times`;
  const told = execFileSync('bash', ['-c', script, command, ...args], { encoding: 'utf8' });
  const children = told.trim().split('\n').at(-1)?.split(/\s+/) ?? [];
  const seconds = children.map(text => {
    const [minutes = '0', rest = '0'] = text.replace('s', '').split('m');
    return Number(minutes) * 60 + Number(rest);
  });
  return {
    wallSeconds: (performance.now() - startedAt) / 1000,
    cpuSeconds: seconds.reduce((sum, part) => sum + part, 0),
  };
}

async function offsite(image: string): Promise<Timing> {
  const identity = await loadIdentity(join(work, 'sender'));
  const receiver = fork(new URL('./transfer-receiver.ts', import.meta.url), [
    join(work, 'receiver'),
    identity.fingerprint,
  ]);
  try {
    const offer = await new Promise<BenchOffer>(resolve => receiver.once('message', resolve as () => void));
    const cpuBefore = process.cpuUsage();
    const startedAt = performance.now();
    const proof = await proveChain(image, { imageRoots: [work] });
    await sendLayer({
      identity,
      offer: { ...offer, epoch: EPOCH },
      diskTaskUuid: DISK_TASK,
      attempt: 1,
      openSource: () => openLayerSource({ topPath: image, basePath: null, imageRoots: [work], proof }),
      throttle: createThrottle(null),
      signal: new AbortController().signal,
      onProgress: () => {},
      log: QUIET,
    });
    const wallSeconds = (performance.now() - startedAt) / 1000;
    const cpu = process.cpuUsage(cpuBefore);
    const receiverCpuSeconds = await new Promise<number>(resolve => {
      receiver.once('message', resolve as () => void);
      receiver.send('cpu');
    });
    return { wallSeconds, cpuSeconds: (cpu.user + cpu.system) / 1e6 + receiverCpuSeconds };
  } finally {
    receiver.kill();
    rmSync(join(work, 'receiver'), { recursive: true, force: true });
  }
}

function print(results: ReadonlyMap<string, readonly Timing[]>): void {
  const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
  const rows = [...results].map(([name, timings]) => ({
    name,
    wall: median(timings.map(({ wallSeconds }) => wallSeconds)),
    cpu: median(timings.map(({ cpuSeconds }) => cpuSeconds)),
  }));
  const floor = rows[0]?.wall ?? 1;
  process.stdout.write(`${sizeMib} MiB of random data, median of ${RUNS} runs\n`);
  for (const { name, wall, cpu } of rows) {
    process.stdout.write(
      `${name.padEnd(18)} wall ${wall.toFixed(2)} s  CPU ${cpu.toFixed(2)} s  ${(wall / floor).toFixed(2)} x cp\n`,
    );
  }
}
