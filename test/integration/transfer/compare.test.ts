import fc from 'fast-check';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ExtentKind, type ExtentMap, ExtentMapBuilder } from '../../../src/domain/extent-map.ts';
import { GuestDigester } from '../../../src/domain/guest-digest.ts';
import { blake3, createXxh128, toHex } from '../../../src/lib/digest.ts';
import type { ComparedOffer, HashRun } from '../../../src/transfer/messages.ts';
import type { CompareBase, LayerSource } from '../../../src/transfer/ports.ts';
import { KIB, MIB, makeContent, makeIdentities, Rig, type TestIdentities, until } from './fakes.ts';

const CLUSTER = 16 * KIB;

/** A whole disk in memory; clusters in `holes` read as zeros without being data. */
class GuestSource implements LayerSource {
  readonly map: ExtentMap;
  readonly guest: Buffer;
  readonly reads: { bytes: number };

  constructor(guest: Buffer, map: ExtentMap, reads = { bytes: 0 }) {
    this.guest = guest;
    this.map = map;
    this.reads = reads;
  }

  async readStream(target: Buffer, position: number): Promise<void> {
    this.reads.bytes += target.length;
    let start = 0;
    for (const { offset, length, kind } of this.map) {
      if (kind !== 'data') continue;
      const from = Math.max(position, start);
      const to = Math.min(position + target.length, start + length);
      if (from < to) this.guest.copy(target, from - position, offset + from - start, offset + to - start);
      start += length;
    }
  }

  withMap = (map: ExtentMap): LayerSource => new GuestSource(this.guest, map, this.reads);
  async assertUnchanged(): Promise<void> {}
  async close(): Promise<void> {}
}

type Cluster = 'zeros' | 'hole' | 'same' | 'other';

function targetOf(clusters: readonly Cluster[], base: Buffer, sizeBytes: number): GuestSource {
  const guest = Buffer.alloc(sizeBytes);
  const builder = new ExtentMapBuilder({ virtualSizeBytes: sizeBytes, clusterSizeBytes: CLUSTER });
  for (let offset = 0, index = 0; offset < sizeBytes; offset += CLUSTER, index += 1) {
    const length = Math.min(CLUSTER, sizeBytes - offset);
    const cluster = clusters[index % clusters.length] ?? 'same';
    if (cluster === 'same') base.subarray(offset, offset + length).copy(guest, offset);
    if (cluster === 'other') makeContent(length, index + 7).copy(guest, offset);
    builder.add(cluster === 'hole' ? 'hole' : 'data', length);
  }
  return new GuestSource(guest, builder.build());
}

class MemoryBase implements CompareBase {
  readonly text = 'what is in memory';
  readonly #content: Buffer;
  readonly #sizeBytes: number;
  readonly #unknown: (index: number) => boolean;
  isClosed = false;
  /** Called before each run. */
  onRun: (index: number) => void | Promise<void> = () => {};

  constructor(content: Buffer, sizeBytes: number, unknown: (index: number) => boolean = () => false) {
    this.#content = content;
    this.#sizeBytes = sizeBytes;
    this.#unknown = unknown;
  }

  async *runs(): AsyncGenerator<HashRun> {
    for (let offset = 0, index = 0; offset < this.#sizeBytes; offset += CLUSTER, index += 1) {
      await this.onRun(index);
      const cluster = Buffer.alloc(Math.min(CLUSTER, this.#sizeBytes - offset));
      this.#content.subarray(offset).copy(cluster);
      if (this.#unknown(index)) yield { kind: 'unknown', offset, clusters: 1, hashes: Buffer.alloc(0) };
      else if (cluster.every(byte => byte === 0))
        yield { kind: 'zero', offset, clusters: 1, hashes: Buffer.alloc(0) };
      else yield { kind: 'hashed', offset, clusters: 1, hashes: blake3(cluster) };
    }
  }

  settle = async () => ({ token: Buffer.alloc(16, 7), text: 'compared with what is in memory' });
  async close(): Promise<void> {
    this.isClosed = true;
  }
}

/** What a layer of this map over the base reads as. */
function over(base: Buffer, map: ExtentMap, stream: Buffer): Buffer {
  const content = Buffer.alloc(map.virtualSizeBytes);
  base.copy(content);
  let position = 0;
  for (const { offset, length, kind } of map) {
    if (kind === 'zero') content.fill(0, offset, offset + length);
    if (kind !== 'data') continue;
    stream.copy(content, offset, position, position + length);
    position += length;
  }
  return content;
}

function guestDigest(guest: Buffer): string {
  const digester = new GuestDigester(guest.length, createXxh128);
  digester.update(guest);
  return toHex(digester.finish());
}

const kindsOf = (map: ExtentMap): ExtentKind[] =>
  [...map].flatMap(({ kind, length }) => Array<ExtentKind>(Math.ceil(length / CLUSTER)).fill(kind));

describe('a disk that is compared with what the receiver has', () => {
  let ids: TestIdentities;
  let rig: Rig;
  let offered: (ComparedOffer | null | undefined)[];
  beforeAll(async () => {
    ids = await makeIdentities();
  });
  beforeEach(async () => {
    rig = await Rig.start(ids);
    offered = [];
    const openSink = rig.directory.openSink.bind(rig.directory);
    rig.directory.openSink = (session, map, compared) => {
      offered.push(compared);
      return openSink(session, map);
    };
  });
  afterEach(() => rig.stop());

  const compare = async (source: LayerSource, base: CompareBase | { none: string }) => {
    rig.directory.onOpenBase = async () => base;
    const disk = rig.openSession();
    const sent = await rig.send(disk, source, { compare: true }).done;
    return { sent, replica: rig.directory.replica(disk) };
  };

  test('arrives as exactly the clusters that differ, over bases of any size and fault', async () => {
    const cluster = fc.constantFrom<Cluster>('zeros', 'hole', 'same', 'same', 'other');
    await fc.assert(
      fc.asyncProperty(
        fc.array(cluster, { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 0, max: 100 }),
        fc.integer({ min: 2, max: 9 }),
        fc.boolean(),
        async (clusters, sectors, baseClusters, every, hasFaults) => {
          const sizeBytes = sectors * 21 * 512;
          const base = makeContent(baseClusters * CLUSTER, 3);
          base.fill(0, Math.min(2 * CLUSTER, base.length), Math.min(5 * CLUSTER, base.length));
          const source = targetOf(clusters, base, sizeBytes);
          const unknown = (index: number) => hasFaults && index % every === 0;
          const { sent, replica } = await compare(source, new MemoryBase(base, sizeBytes, unknown));
          const shown = Buffer.alloc(Math.max(base.length, sizeBytes));
          base.copy(shown);
          for (const [index, kind] of kindsOf(replica.map).entries()) {
            const [start, end] = [index * CLUSTER, Math.min((index + 1) * CLUSTER, sizeBytes)];
            const target = source.guest.subarray(start, end);
            const isZero = target.every(byte => byte === 0);
            const isSame = !unknown(index) && target.equals(shown.subarray(start, end));
            expect(kind).toBe(isSame ? 'hole' : isZero ? 'zero' : 'data');
          }
          expect(over(base, replica.map, replica.bytes).equals(source.guest)).toBe(true);
          expect(sent.bytesSent).toBe(replica.map.dataBytes);
          expect(toHex(offered.at(-1)?.guestDigest ?? Buffer.alloc(0))).toBe(guestDigest(source.guest));
          // Everything is read once for the hashes, what differs once more to be sent; holes never.
          expect(source.reads.bytes).toBe(source.map.dataBytes + replica.map.dataBytes);
        },
      ),
      { numRuns: 60 },
    );
  }, 120_000);

  test('costs the line its hashes when nothing differs', async () => {
    const base = makeContent(32 * MIB);
    const memory = new MemoryBase(base, base.length);
    const { sent } = await compare(targetOf(['same'], base, base.length), memory);
    expect(sent.bytesSent).toBe(0);
    expect(rig.proxy.bytes.up).toBeLessThan(32 * KIB);
    expect(rig.proxy.bytes.down).toBeLessThan((base.length / CLUSTER) * (32 + 32 + 64) + 32 * KIB);
    expect(memory.isClosed).toBe(true);
  });

  test('is sent whole where there is nothing to compare with', async () => {
    const source = targetOf(['other', 'hole'], Buffer.alloc(0), 2 * MIB);
    const { replica } = await compare(source, { none: 'nothing is left of this disk' });
    expect(Buffer.from(source.map.encoded).equals(replica.map.encoded)).toBe(true);
    expect(offered).toEqual([undefined]);
  });

  test('is hashed anew after a cut while hashing, and not after one while sending', async () => {
    const base = makeContent(8 * MIB);
    const source = targetOf(['same', 'other'], base, base.length);
    let opened = 0;
    rig.directory.onOpenBase = async () => {
      opened += 1;
      const memory = new MemoryBase(base, base.length);
      if (opened === 1) memory.onRun = index => void (index === 200 && rig.proxy.cutNow());
      return memory;
    };
    const disk = rig.openSession();
    const { done } = rig.send(disk, source, { compare: true });
    await until(() => rig.directory.replicas.has(disk));
    rig.proxy.cutAfter(2 * MIB, 'up');
    const sent = await done;
    expect(opened).toBe(2);
    expect(rig.proxy.cuts).toBe(2);
    expect(sent.connections).toBe(3);
    expect(
      over(base, rig.directory.replica(disk).map, rig.directory.replica(disk).bytes).equals(source.guest),
    ).toBe(true);
  });

  test('keeps the connection alive through a pause in hashing that is longer than the idle time-out', async () => {
    const base = makeContent(MIB);
    const memory = new MemoryBase(base, base.length);
    memory.onRun = index => (index === 3 ? new Promise(resolve => setTimeout(resolve, 1500)) : undefined);
    const { sent } = await compare(targetOf(['same', 'other'], base, base.length), memory);
    expect(sent.connections).toBe(1);
  });

  test('is refused hashes that leave a cluster out, come twice, or end early', async () => {
    const base = makeContent(MIB);
    const whole = new MemoryBase(base, base.length);
    const bent: [string, (run: HashRun, index: number) => HashRun[]][] = [
      ['BadPosition', (run, index) => (index === 5 ? [] : [run])],
      ['BadPosition', (run, index) => (index === 5 ? [run, run] : [run])],
      ['BadFrame', (run, index) => (index > 50 ? [] : [run])],
      ['BadPosition', run => [{ ...run, clusters: 4_000_000_000, kind: 'zero', hashes: Buffer.alloc(0) }]],
    ];
    for (const [code, bend] of bent) {
      const memory: CompareBase = {
        text: 'bent',
        async *runs() {
          let index = 0;
          for await (const run of whole.runs()) yield* bend(run, index++);
        },
        settle: whole.settle,
        close: async () => {},
      };
      await expect(compare(targetOf(['same'], base, base.length), memory)).rejects.toMatchObject({ code });
    }
  });
});
