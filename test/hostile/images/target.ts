/** The qcow2 and raw reader: opens, maps and reads a bent chain, as site A does with what lies in its image roots. */
import { type ImageChain, MAX_CHAIN_DEPTH, openChain } from '../../../src/images/chain.ts';
import type { Layer } from '../../../src/images/chain-layer.ts';
import { ImageError } from '../../../src/images/errors.ts';
import { proofsOf } from '../../../src/images/proof.ts';
import { must, type Target } from '../campaign.ts';
import type { Random } from '../random.ts';
import { buildCorpus, type SoundChain } from './corpus.ts';
import { DiskCases } from './disk-cases.ts';
import { ROOT } from './memory-file.ts';
import { mutate } from './mutations.ts';

const MIB = 2 ** 20;
/** A compressed cluster of 2 MiB may take 4 MiB of the file; nothing else is larger. */
const MAX_BUFFER_BYTES = 4 * MIB + 512;
/**
 * All buffers of a case one after the other, not at one time: an L1 table of 32 MiB is more than the cache keeps, so it
 * is read in slices at the opening and again by each look over the disk (two maps and three reads at most).
 */
const MAX_CASE_BYTES = 256 * MIB;
const MOST_READ_BYTES = 64 * 1024;
const USUAL_READ_BYTES = 2 * 1024;
const ZEROS = Buffer.alloc(MOST_READ_BYTES);
const GUARD_BYTES = 16;
const GUARD = Buffer.alloc(GUARD_BYTES, 0xa5);
/** These are slow, or rarely what matters. */
const RARE = new Set(['largest-clusters', 'deep', 'empty']);
const DISK_EACH = 64;

export async function openImageTarget(): Promise<Target> {
  const chains = await buildCorpus();
  const often = chains.flatMap(chain =>
    RARE.has(chain.name) ? [chain] : Array.from({ length: 8 }, () => chain),
  );
  const maxima = {
    'most reads of a case': 0,
    'most steps of a case': 0,
    'most layers': 0,
    'cases on disk': 0,
  };
  const disk = await DiskCases.open();
  return {
    name: 'qcow2',
    maxBufferBytes: MAX_BUFFER_BYTES,
    maxCaseBytes: MAX_CASE_BYTES,
    maxima,
    async run(random) {
      const chain = random.pick(often);
      try {
        mutate(random, chain);
        if (random.oneIn(DISK_EACH)) {
          maxima['cases on disk'] += 1;
          return await disk.run(chain, roots =>
            look(random, roots.topPath, { imageRoots: [roots.root] }, chain),
          );
        }
        return await inMemory(random, chain, maxima);
      } finally {
        for (const { file } of chain.files) file.restore();
      }
    },
    close: () => disk.close(),
  };
}

async function inMemory(random: Random, chain: SoundChain, maxima: Record<string, number>): Promise<string> {
  const { folder } = chain;
  folder.reset();
  const steps = { count: 0, layers: 0 };
  const options = { imageRoots: [ROOT], openFile: folder.open };
  const outcome = await look(random, `${ROOT}/top`, options, chain, steps);
  must(folder.isOpen === 0, () => `${folder.isOpen} files were left open (${outcome})`);
  must(folder.opens <= MAX_CHAIN_DEPTH + 1, () => `${folder.opens} files were opened`);
  const most = mostWork(chain);
  must(folder.reads <= most.reads, () => `${folder.reads} reads, ${most.reads} are allowed (${outcome})`);
  must(steps.count <= most.steps, () => `${steps.count} steps, ${most.steps} are allowed (${outcome})`);
  const raise = (name: string, value: number): void => {
    maxima[name] = Math.max(maxima[name] ?? 0, value);
  };
  raise('most reads of a case', folder.reads);
  raise('most steps of a case', steps.count);
  raise('most layers', steps.layers);
  return outcome;
}

/**
 * What the files have room for bounds the work: an L2 table a cluster and a run an entry at most (32 with extended
 * L2), an L1 table of 32 MiB at most. A case looks over the chain a few times.
 */
function mostWork(chain: SoundChain): { reads: number; steps: number } {
  let reads = 0;
  let entries = 0;
  for (const { file } of chain.files) {
    const held = Math.min(file.sizeBytes, file.bytes.length);
    reads += 2_000 + held / 512;
    entries += 2_000 + held * 2;
  }
  return { reads: reads * 8, steps: entries * 8 };
}

type OpenOptions = Parameters<typeof openChain>[1];

async function look(
  random: Random,
  topPath: string,
  options: OpenOptions,
  { topFormat }: SoundChain,
  steps = { count: 0, layers: 0 },
): Promise<string> {
  let chain: ImageChain;
  try {
    chain = await openChain(topPath, { ...options, topFormat });
  } catch (error) {
    return codeOf(error);
  }
  try {
    steps.layers = chain.layers.length;
    for (const layer of chain.layers) countSteps(layer as Layer, steps);
    await useChain(random, chain);
    return 'accepted';
  } catch (error) {
    return codeOf(error);
  } finally {
    await chain.close();
  }
}

/** @throws what is no image error */
function codeOf(error: unknown): string {
  if (!(error instanceof ImageError)) throw error;
  must(error.message.length < 20_000, () => `a message of ${error.message.length} characters`);
  return error.code;
}

function countSteps(layer: Layer, steps: { count: number }): void {
  const { locate } = layer;
  layer.locate = (offset, maxLength) => {
    steps.count += 1;
    return locate.call(layer, offset, maxLength);
  };
}

async function useChain(random: Random, chain: ImageChain): Promise<void> {
  const { virtualSizeBytes, layers } = chain;
  must(Number.isSafeInteger(virtualSizeBytes), () => `a disk of ${virtualSizeBytes} bytes`);
  must(layers.length <= MAX_CHAIN_DEPTH, () => `${layers.length} layers`);
  const map = await chain.map();
  must(map.virtualSizeBytes === virtualSizeBytes, () => 'the map has another size than the disk');
  const looked = [];
  const lookedAt = random.below(64);
  for (const extent of map) {
    looked.push(extent);
    if (looked.length > lookedAt) break;
  }
  for (let left = Math.min(3, looked.length); left > 0; left -= 1) {
    const { kind, offset, length } = random.pick(looked);
    const skip = random.below(Math.min(length, 2 ** 31));
    const most = random.oneIn(16) ? MOST_READ_BYTES : USUAL_READ_BYTES;
    const take = Math.min(length - skip, 1 + random.below(most));
    await readGuarded(chain, offset + skip, take, kind !== 'data');
  }
  if (layers.length > 1 && random.oneIn(2)) await chain.map({ above: 1 + random.below(layers.length) });
  if (random.oneIn(8)) await proofsOf(chain);
}

/** Reads into the middle of a buffer, and looks at what lies before and behind it. */
async function readGuarded(
  chain: ImageChain,
  offset: number,
  length: number,
  isZero: boolean,
): Promise<void> {
  const whole = Buffer.allocUnsafe(length + 2 * GUARD_BYTES);
  const target = whole.subarray(GUARD_BYTES, GUARD_BYTES + length);
  const [before, behind] = [whole.subarray(0, GUARD_BYTES), whole.subarray(GUARD_BYTES + length)];
  before.set(GUARD);
  behind.set(GUARD);
  await chain.read(target, offset);
  must(before.equals(GUARD), () => 'bytes before the target were written');
  must(behind.equals(GUARD), () => 'bytes behind the target were written');
  if (isZero) {
    must(
      target.equals(ZEROS.subarray(0, length)),
      () => `guest bytes at ${offset} are mapped as zeros, and are not`,
    );
  }
}
