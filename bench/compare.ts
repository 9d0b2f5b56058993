/**
 * What a comparison of an equal disk costs beside a full copy of it, in the same run:
 *   node bench/compare.ts [SIZE_MIB]
 * Sender and receiver are one process here, over mutual TLS on loopback, with durable files; the base is a sealed layer
 * that is proven in the same pass. Prints wall seconds, bytes on the line each way, and ratios. Needs qemu-utils.
 */
import { execFileSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLayerSource } from '../src/images/layer-source.ts';
import { proveChain } from '../src/images/proof.ts';
import { openCompareBase } from '../src/images/replica/compare-base.ts';
import { readDigestFile } from '../src/images/replica/digest-file.ts';
import { openPartial } from '../src/images/replica/partial.ts';
import { sealPartial } from '../src/images/replica/seal.ts';
import { toHex } from '../src/lib/digest.ts';
import { loadIdentity } from '../src/transfer/identity.ts';
import { createReceiver } from '../src/transfer/receiver.ts';
import { sendLayer } from '../src/transfer/sender.ts';
import { createThrottle } from '../src/transfer/throttle.ts';
import { DISK_TASK, EPOCH, QUIET } from './transfer-receiver.ts';

const MIB = 1024 * 1024;
const RUNS = 3;
const NAME = '00000000-0000-4000-8000-000000000002.0123456789abcdef.qcow2';

const sizeMib = Number(process.argv[2] ?? 512);
const work = mkdtempSync(join(tmpdir(), 'offsite-bench-'));
try {
  const image = makeImage();
  const full: Measured[] = [];
  const compare: Measured[] = [];
  for (let run = 0; run < RUNS; run += 1) {
    const replicas = join(work, `replicas-${run}`);
    full.push(await transfer(image, replicas, null));
    const base = join(replicas, NAME);
    compare.push(await transfer(image, join(work, `over-${run}`), base));
    rmSync(replicas, { recursive: true });
  }
  print('full', full, full);
  print('compare, equal', compare, full);
} finally {
  rmSync(work, { recursive: true, force: true });
}

interface Measured {
  readonly wallSeconds: number;
  readonly up: number;
  readonly down: number;
}

/** A disk full of bytes that nothing can compress. */
function makeImage(): string {
  const raw = join(work, 'disk.raw');
  const file = openSync(raw, 'w');
  const block = Buffer.alloc(MIB);
  for (let at = 0; at < sizeMib; at += 1) writeSync(file, randomFillSync(block));
  const path = join(work, 'disk.qcow2');
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path]);
  rmSync(raw);
  return path;
}

/** @param base a sealed layer to compare with; null sends all and seals it */
async function transfer(image: string, directory: string, base: string | null): Promise<Measured> {
  const [a, b] = await Promise.all(['a', 'b'].map(name => loadIdentity(join(work, name))));
  if (a === undefined || b === undefined) throw new Error('no identities');
  const receiver = createReceiver({
    identity: b,
    listen: { host: '127.0.0.1', port: 0 },
    directory: {
      find: async diskTaskUuid => ({
        ...{ diskTaskUuid, epoch: EPOCH, senderFingerprint: a.fingerprint, state: 'open', received: null },
      }),
      async openBase(_session, shape) {
        const topPath = base ?? '';
        const digest = toHex((await readDigestFile(`${topPath}.digests`)).contentDigest);
        const opened = await openCompareBase({
          ...{ topPath, topFormat: 'qcow2', imageRoots: [work], shape, expected: [digest] },
        });
        return {
          text: 'the replica',
          runs: () => opened.runs(),
          async settle() {
            if (opened.doubt !== null) throw new Error(opened.doubt);
            return { token: Buffer.alloc(16, 1), text: 'proven' };
          },
          close: () => opened.close(),
        };
      },
      resumeSink: async () => null,
      openSink: (_session, map) => openPartial({ directory, finalName: NAME, map, backing: null }),
      openJournal: () => Promise.reject(new Error('not here')),
      markReceived: async () => {},
    },
    log: QUIET,
  });
  await receiver.start();
  const line = await countingLine(receiver.port);
  const startedAt = performance.now();
  const proof = await proveChain(image, { imageRoots: [work] });
  const sent = await sendLayer({
    identity: a,
    offer: { host: '127.0.0.1', port: line.port, fingerprint: b.fingerprint, epoch: EPOCH },
    diskTaskUuid: DISK_TASK,
    attempt: 1,
    openSource: () => openLayerSource({ topPath: image, basePath: null, imageRoots: [work], proof }),
    compare: base !== null,
    throttle: createThrottle(null),
    signal: new AbortController().signal,
    onProgress: () => {},
    log: QUIET,
  });
  const wallSeconds = (performance.now() - startedAt) / 1000;
  await receiver.close();
  line.close();
  if (base === null) await sealPartial({ directory, finalName: NAME, contentDigest: sent.contentDigest });
  return { wallSeconds, ...line.bytes };
}

/** Passes one connection on and counts what goes each way. */
async function countingLine(port: number) {
  const bytes = { up: 0, down: 0 };
  const server = createServer(client => {
    const upstream = connect(port, '127.0.0.1');
    client.on('data', chunk => {
      bytes.up += chunk.length;
    });
    upstream.on('data', chunk => {
      bytes.down += chunk.length;
    });
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return { port: address.port, bytes, close: () => server.close() };
}

function print(name: string, runs: readonly Measured[], floor: readonly Measured[]): void {
  const median = (values: number[]) => values.sort((x, y) => x - y)[Math.floor(values.length / 2)] ?? 0;
  const seconds = (of: readonly Measured[]) => median(of.map(({ wallSeconds }) => wallSeconds));
  const bytes = (of: readonly Measured[]) => median(of.map(({ up, down }) => up + down));
  const last = runs.at(-1);
  process.stdout.write(
    `${name.padEnd(16)} ${seconds(runs).toFixed(2)} s (${(seconds(runs) / seconds(floor)).toFixed(2)} x full)  ` +
      `up ${last?.up} down ${last?.down} bytes (${((100 * bytes(runs)) / bytes(floor)).toFixed(3)} % of full)\n`,
  );
}
