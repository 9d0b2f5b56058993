/** A run in which one worker is killed three times at random offsets inside the transfer. */
import { expect } from 'vitest';
import { RECEIVER_LIMITS, SENDER_LIMITS } from '../../src/transfer/limits.ts';
import { type KillRecord, killInTransfer } from './e2e-faults.ts';
import { createHostImages, createSchedule, untilPublished } from './e2e-host.ts';
import { invariantsOf } from './e2e-look.ts';
import type { TwoSites } from './two-sites.ts';

const MIB = 1024 * 1024;
const DATA_MIB = { vda: 96, vdb: 64 };
const DATA_BYTES = (DATA_MIB.vda + DATA_MIB.vdb) * MIB;
const KILLS = 3;
/** Frames, TLS records, handshakes, keep-alives and maps. */
const OVERHEAD = 1.02;
/** What a disk may have under way without an acknowledgement: at B, in the two queues, and being read at A. */
const WINDOW_BYTES =
  RECEIVER_LIMITS.flushBytes + RECEIVER_LIMITS.queuedBytes + SENDER_LIMITS.queuedBytes + 4 * MIB;

/** The offsets lie 20 to 27 % of the data behind each other, so the last kill is inside, too. */
const randomStep = (): number => Math.round(DATA_BYTES * (0.2 + 0.07 * Math.random()));

/** Replicates a host of two disks, killing `service` three times, and checks what was sent and what is there. */
export async function runWithKills(sites: TwoSites, service: 'worker-a' | 'worker-b'): Promise<void> {
  const host = await createHostImages(sites, 'web1');
  const snapshot = await host.next(disk => [`write -P 7 0 ${DATA_MIB[disk as keyof typeof DATA_MIB]}M`]);
  await createSchedule(sites, 'nightly', 'web1', '--bandwidth', '16MiB/s');
  const kills: KillRecord[] = [];
  for (let count = 0; count < KILLS; count += 1) {
    kills.push(await killInTransfer(sites, service, { sizeBytes: randomStep(), dataBytes: DATA_BYTES }));
  }
  const { lastTask } = await untilPublished(sites, 'nightly', snapshot);
  expect(lastTask?.disks.map(({ method }) => method)).toEqual(['full', 'full']);
  assertResumed(kills, sites.proxy.bytes.up);
  expect(await invariantsOf(sites)).toEqual([]);
}

/** What B held at a kill never comes again; what it did not hold is no more than the window. */
function assertResumed(kills: readonly KillRecord[], totalBytes: number): void {
  let sentAgainBytes = 0;
  let before: KillRecord = { upBytes: 0, durableBytes: 0 };
  for (const kill of kills) {
    const lostBytes = before.durableBytes + (kill.upBytes - before.upBytes) - kill.durableBytes;
    expect(kill.durableBytes, 'each stretch leaves something durable').toBeGreaterThan(before.durableBytes);
    expect(lostBytes).toBeLessThanOrEqual(2 * WINDOW_BYTES);
    sentAgainBytes += lostBytes;
    before = kill;
  }
  expect(totalBytes).toBeGreaterThanOrEqual(DATA_BYTES);
  expect(totalBytes).toBeLessThanOrEqual((DATA_BYTES + sentAgainBytes) * OVERHEAD);
  expect(totalBytes).toBeLessThanOrEqual((DATA_BYTES + KILLS * 2 * WINDOW_BYTES) * OVERHEAD);
}
