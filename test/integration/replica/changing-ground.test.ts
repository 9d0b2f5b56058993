/** Layers that change at A while they are sent, by QEMU's own tools, at an instant of the test's choice. */
import { copyFile, mkdir, open, rename, rm, stat, truncate, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { openLayerSource } from '../../../src/images/layer-source.ts';
import { proveChain } from '../../../src/images/proof.ts';
import { createReceiver, type Receiver } from '../../../src/transfer/receiver.ts';
import { type SentLayer as Sent, sendLayer } from '../../../src/transfer/sender.ts';
import { createThrottle, type Throttle } from '../../../src/transfer/throttle.ts';
import { useTestDatabase } from '../../support/database.ts';
import { qemuCheck, qemuIdentical, qemuImg, qemuIo } from '../../support/qemu.ts';
import {
  collectLog,
  makeIdentities,
  SHORT_RECEIVER,
  SHORT_SENDER,
  type TestIdentities,
} from '../transfer/fakes.ts';
import { createReplicaBench, type DiskRun, layerOver, type ReplicaBench } from './replica-bench.ts';

const MIB = 1024 * 1024;
const GATE_BYTES = 6 * MIB;
/** Above what a sender reads ahead, so that a change at the gate comes before some bytes were read. */
const DATA_BYTES = 18 * MIB;
const database = useTestDatabase();
let ids: TestIdentities;
let bench: ReplicaBench;
let receiver: Receiver;
let images: string;
let nextAttempt = 1;
const path = (name: string) => join(images, `${name}.qcow2`);
const imageRoots = () => [images];

beforeAll(async () => {
  ids = await makeIdentities();
});

beforeEach(async () => {
  bench = await createReplicaBench(database().db);
  images = join(bench.root, 'images');
  await mkdir(images);
  await qemuImg('create', '-q', '-f', 'qcow2', path('base'), '64M');
  await qemuIo(path('base'), ['write -P 1 0 12M']);
  for (const [name, below, write] of [
    ['middle', 'base', 'write -P 2 10M 5M'],
    ['top', 'middle', 'write -P 3 15M 3M'],
  ] as const) {
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', path(below), '-F', 'qcow2', path(name));
    await qemuIo(path(name), [write]);
  }
  receiver = createReceiver({
    identity: ids.b,
    listen: { host: '127.0.0.1', port: 0 },
    directory: bench.directory,
    log: collectLog().log,
    limits: SHORT_RECEIVER,
  });
  await receiver.start();
});

afterEach(async () => {
  await receiver?.close();
  await bench?.close();
});

interface Gate extends Throttle {
  /** Resolves when so many bytes were sent: nothing more goes out until {@link open}. */
  readonly reached: Promise<void>;
  open(): void;
}

/** @param rate of what follows once it is open, in bytes per second; null for no limit */
function gateAt(bytes: number, rate: number | null = null): Gate {
  const inner = createThrottle(rate);
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  let taken = 0;
  return {
    setRate: rate => inner.setRate(rate),
    pieceBytes: most => Math.min(most, MIB),
    reached: reached.promise,
    open: () => opened.resolve(),
    async take(sizeBytes, signal) {
      taken += sizeBytes;
      if (taken <= bytes) return;
      reached.resolve();
      await opened.promise;
      await inner.take(sizeBytes, signal);
    },
  };
}

const proof = () => proveChain(path('top'), { imageRoots: imageRoots() });

/** Sends the whole disk as it was proven. */
async function send(
  run: DiskRun,
  proven: Awaited<ReturnType<typeof proof>>,
  throttle: Throttle,
): Promise<Sent> {
  return sendLayer({
    identity: ids.a,
    offer: {
      host: '127.0.0.1',
      port: receiver.port,
      fingerprint: ids.b.fingerprint,
      epoch: run.session.epoch,
    },
    diskTaskUuid: run.diskTaskUuid,
    attempt: nextAttempt++ * 1_000_000,
    openSource: () =>
      openLayerSource({ topPath: path('top'), basePath: null, imageRoots: imageRoots(), proof: proven }),
    throttle,
    signal: new AbortController().signal,
    onProgress: () => {},
    log: collectLog().log,
    limits: SHORT_SENDER,
  });
}

const newTarget = () => layerOver(null, 64 * MIB, []);

/** The next plan: proven anew, sent as what it is now. */
async function sendAnew(run: DiskRun): Promise<Sent> {
  const proven = await proof();
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await send(run, proven, createThrottle(null));
    } catch (error) {
      // The prefix of the older generation shows at the end; the retry begins at zero.
      if ((error as { code?: string }).code !== 'DigestMismatch' || attempt === 2) throw error;
    }
  }
}

async function publish(run: DiskRun): Promise<string> {
  const sealed = await bench.seal(run);
  await bench.catalog.finishTask(run);
  return sealed;
}

async function replaceBy(name: string, write: string): Promise<void> {
  await copyFile(path(name), path('other'));
  await qemuIo(path('other'), [write]);
  await rename(path('other'), path(name));
}

interface Change {
  readonly what: string;
  readonly change: () => Promise<unknown>;
  /** Brings back what cannot be read any more. */
  readonly mend?: () => Promise<unknown>;
}

const CHANGES: readonly Change[] = [
  { what: 'the top is committed into the layer beneath', change: () => qemuImg('commit', '-q', path('top')) },
  {
    what: 'the top is rebased safely',
    change: () => qemuImg('rebase', '-q', '-b', path('base'), '-F', 'qcow2', path('top')),
  },
  {
    what: 'the top is rebased without a look at the content',
    change: () => qemuImg('rebase', '-q', '-u', '-b', path('base'), '-F', 'qcow2', path('top')),
  },
  {
    what: 'another file is renamed over the middle',
    change: () => replaceBy('middle', 'write -P 9 11M 3M'),
  },
  {
    what: 'the base is written in place where it is sent, its times put back',
    change: async () => {
      const { atime, mtime } = await stat(path('base'));
      await qemuIo(path('base'), ['write -P 7 0 9M']);
      await utimes(path('base'), atime, mtime);
    },
  },
  {
    what: 'the base is deleted, and another one comes in its place',
    change: async () => {
      await copyFile(path('base'), path('other'));
      await rm(path('base'));
    },
    mend: async () => {
      await qemuIo(path('other'), ['write -P 5 2M 1M']);
      await rename(path('other'), path('base'));
    },
  },
  {
    what: 'the middle is truncated, and comes back from a copy',
    change: async () => {
      await copyFile(path('middle'), path('other'));
      await truncate(path('middle'), 3 * MIB);
    },
    mend: () => rename(path('other'), path('middle')),
  },
  {
    what: 'the tables of the base are overwritten, and it comes back from a copy',
    change: async () => {
      await copyFile(path('base'), path('other'));
      const file = await open(path('base'), 'r+');
      await file.write(Buffer.alloc(256 * 1024, 0xa5), 0, 256 * 1024, 64 * 1024);
      await file.close();
    },
    mend: () => rename(path('other'), path('base')),
  },
];

it.each(CHANGES)(
  '$what: the plan is broken, and the next one publishes one generation',
  async ({ change, mend }) => {
    const target = newTarget();
    const run = await bench.begin(target, ids.a.fingerprint);
    const gate = gateAt(GATE_BYTES);
    const sending = send(run, await proof(), gate);
    sending.catch(() => {});
    await gate.reached;
    await change();
    gate.open();
    await expect(sending).rejects.toMatchObject({
      code: 'PlanBroken',
      message: expect.stringContaining('top'),
    });
    expect(await bench.catalog.findSession(run.diskTaskUuid)).toMatchObject({
      state: 'open',
      received: null,
    });

    await mend?.();
    const next = await bench.begin(target, ids.a.fingerprint);
    await sendAnew(next);
    const published = await publish(next);
    expect(await qemuIdentical(path('top'), published)).toBe(true);
    expect(await qemuCheck(published)).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });
  },
);

it('a change is seen while bytes still flow, not only at the end', async () => {
  const target = newTarget();
  const run = await bench.begin(target, ids.a.fingerprint);
  let sentBytes = 0;
  const gate = gateAt(GATE_BYTES, 2 * MIB);
  const sending = send(run, await proof(), {
    ...gate,
    async take(sizeBytes, signal) {
      await gate.take(sizeBytes, signal);
      sentBytes += sizeBytes;
    },
  });
  sending.catch(() => {});
  await gate.reached;
  await replaceBy('base', 'write -P 9 0 1M');
  gate.open();
  await expect(sending).rejects.toMatchObject({ code: 'PlanBroken' });
  expect(sentBytes).toBeGreaterThan(GATE_BYTES - MIB);
  expect(sentBytes).toBeLessThan(DATA_BYTES);
});
