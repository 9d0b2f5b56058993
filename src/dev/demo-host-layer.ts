/** What one layer of a demo disk holds: the blocks in which a volume differs from what lies beneath. */
import { type ExtentKind, type ExtentMap, ExtentMapBuilder } from '../domain/extent-map.ts';
import type { ImageChain } from '../images/chain.ts';
import { type SparseVolume, VOLUME_BLOCK_BYTES } from './fat/sparse-volume.ts';

const ZEROS = Buffer.alloc(VOLUME_BLOCK_BYTES);

export interface DemoLayer {
  readonly map: ExtentMap;
  /** Fills `target` with the bytes of the data stream from `position` on. */
  readStream(target: Buffer, position: number): Promise<void>;
}

/** @param base the layers beneath; null for a stand-alone image */
export async function planDemoLayer(volume: SparseVolume, base: ImageChain | null): Promise<DemoLayer> {
  const shape = { virtualSizeBytes: volume.sizeBytes, clusterSizeBytes: VOLUME_BLOCK_BYTES };
  const builder = new ExtentMapBuilder(shape);
  const dataBlocks: Buffer[] = [];
  const beneath = Buffer.alloc(VOLUME_BLOCK_BYTES);
  for (let index = 0; index < volume.blockCount; index += 1) {
    await base?.read(beneath, index * VOLUME_BLOCK_BYTES);
    const block = volume.block(index) ?? ZEROS;
    const kind = kindOf(block, beneath);
    builder.add(kind, VOLUME_BLOCK_BYTES);
    if (kind === 'data') dataBlocks.push(block);
  }
  return {
    map: builder.build(),
    readStream: async (target, position) => {
      for (let filled = 0; filled < target.length; ) {
        const at = position + filled;
        const block = dataBlocks[Math.floor(at / VOLUME_BLOCK_BYTES)];
        if (block === undefined) throw new RangeError(`the layer's data ends before ${at}`);
        filled += block.copy(target, filled, at % VOLUME_BLOCK_BYTES);
      }
    },
  };
}

function kindOf(block: Buffer, beneath: Buffer): ExtentKind {
  if (block.equals(beneath)) return 'hole';
  return block.equals(ZEROS) ? 'zero' : 'data';
}
