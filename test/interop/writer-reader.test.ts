import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openChain } from '../../src/images/chain.ts';
import type { BackingFile } from '../../src/images/qcow2/layout.ts';
import { verifySealed } from '../../src/images/replica/verify.ts';
import { contentOf, mapOf, randomBytes, sealLayer, withMemoryDir } from '../unit/images/replica-fixtures.ts';

const KIB = 1024;

it.each([4, 64, 128, 2048])('our reader finds in our layers what was sent, clusters of %i KiB', async kib => {
  await withMemoryDir(async dir => {
    const cluster = kib * KIB;
    const layers = [
      mapOf(7 * cluster, cluster, [
        ['data', 2],
        ['zero', 1],
      ]),
      mapOf(3 * cluster + 512, cluster, [
        ['hole', 1],
        ['data', 1],
        ['zero', 1],
        ['data', 1],
      ]),
      mapOf(6 * cluster - 512, cluster, [
        ['zero', 1],
        ['hole', 4],
        ['zero', 1],
      ]),
    ];
    const paths: string[] = [];
    let backing: BackingFile | null = null;
    let content: Buffer | null = null;
    for (const [index, map] of layers.entries()) {
      const stream = randomBytes(map.dataBytes, index + 1);
      const name: string = await sealLayer(dir, { map, stream, backing });
      backing = { name, format: 'qcow2' };
      content = contentOf(map, stream, content);
      paths.push(join(dir, name));
    }
    for (const path of paths) {
      const chain = await openChain(path, { imageRoots: [dir] });
      try {
        expect(await verifySealed(path, { imageRoots: [dir] })).toMatchObject({ damage: null });
        if (path !== paths.at(-1)) continue;
        const read = Buffer.alloc(chain.virtualSizeBytes);
        await chain.read(read, 0);
        expect(content !== null && read.equals(content)).toBe(true);
      } finally {
        await chain.close();
      }
    }
  });
});
