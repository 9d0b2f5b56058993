import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ExtentKind } from '../../../src/domain/extent-map.ts';
import { encodePiece } from '../../../src/transfer/messages.ts';
import { MIB, makeIdentities, makeMap, Rig } from './fakes.ts';
import { RawClient } from './raw-client.ts';

const KINDS: readonly ExtentKind[] = ['hole', 'zero'];
let rig: Rig;
beforeAll(async () => {
  rig = await Rig.start(await makeIdentities());
});
afterAll(() => rig.stop());

test('a map of some MiB comes whole in pieces of any size, beginning with single bytes', async () => {
  const extents = Array.from({ length: 2.5 * MIB }, (_, index) => [KINDS[index % 2] ?? 'hole', 512] as const);
  const map = makeMap(extents, 512);
  const disk = rig.openSession();
  const client = (await RawClient.connect(rig.receiver.port, rig.ids.a)).hello(disk).offer(map);
  await client.hears('mapWanted');
  const sizes = [...Array.from({ length: 500 }, () => 1), MIB - 501, 3, 700_001, MIB, MIB];
  let at = 0;
  for (const size of sizes) {
    if (at < map.encoded.length) client.say(encodePiece('map', at, map.encoded.subarray(at, at + size)));
    at += size;
  }
  expect(at).toBeGreaterThanOrEqual(map.encoded.length);
  await client.hears('start');
  expect(Buffer.compare(rig.directory.replica(disk).map.encoded, map.encoded)).toBe(0);
  client.close();
});
