/** A raw image as a layer: all of it is data. */
import type { OpenImage } from '../chain-file.ts';
import { type Layer, type LayerRun, plainRun } from '../chain-layer.ts';
import { ImageUnsupportedError } from '../errors.ts';

const SECTOR_BYTES = 512;

/**
 * Its size is the file's, raised to whole sectors as QEMU does; the rest of the last sector is zeros.
 * @throws {ImageUnsupportedError} for a sparse file so long that its offsets are no exact numbers
 */
export function createRawLayer(file: OpenImage): Layer {
  const virtualSizeBytes = Math.ceil(file.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  if (!Number.isSafeInteger(virtualSizeBytes)) {
    throw new ImageUnsupportedError(file.path, `a disk of ${file.sizeBytes} bytes is too large to be read`);
  }
  return {
    file,
    path: file.path,
    realPath: file.realPath,
    format: 'raw',
    virtualSizeBytes,
    clusterSizeBytes: null,
    granularity: null,
    identity: file.identity,
    fileSizeBytes: file.sizeBytes,
    locate: async (offset, maxLength): Promise<LayerRun> =>
      plainRun(offset, Math.min(maxLength, virtualSizeBytes - offset)),
    readRun: (run, target) => file.read(target, run.hostOffset),
  };
}
