/** A disk in memory, as a sender reads it: notices every read that was not asked for. */
import type { ExtentMap } from '../../../src/domain/extent-map.ts';
import type { LayerSource } from '../../../src/transfer/ports.ts';
import { must } from '../campaign.ts';

const MAX_READ_BYTES = 2 ** 21;

/** What all sources of one disk have noticed. */
export interface Notices {
  reads: number;
  readBytes: number;
  reading: number;
  isClosed: boolean;
}

export class WatchedSource implements LayerSource {
  readonly map: ExtentMap;
  readonly #disk: Buffer;
  readonly notices: Notices;

  /** @param disk what the guest sees, whole */
  constructor(
    map: ExtentMap,
    disk: Buffer,
    notices: Notices = { reads: 0, readBytes: 0, reading: 0, isClosed: false },
  ) {
    this.map = map;
    this.#disk = disk;
    this.notices = notices;
  }

  async readStream(target: Buffer, position: number): Promise<void> {
    const { notices, map } = this;
    must(!notices.isClosed, () => 'a read after the close');
    must(target.length > 0 && target.length <= MAX_READ_BYTES, () => `a read of ${target.length} bytes`);
    must(
      Number.isSafeInteger(position) && position >= 0 && position + target.length <= map.dataBytes,
      () => `a read of ${target.length} bytes at ${position} of ${map.dataBytes}`,
    );
    notices.reads += 1;
    notices.readBytes += target.length;
    notices.reading += 1;
    await null;
    this.streamAt(position, target.length).copy(target);
    notices.reading -= 1;
  }

  async assertUnchanged(): Promise<void> {
    must(!this.notices.isClosed, () => 'a look after the close');
  }

  withMap(map: ExtentMap): WatchedSource {
    return new WatchedSource(map, this.#disk, this.notices);
  }

  async close(): Promise<void> {
    must(!this.notices.isClosed, () => 'a second close');
    must(this.notices.reading === 0, () => 'closed while it is read');
    this.notices.isClosed = true;
  }

  /** The bytes of the data stream from `position` on. */
  streamAt(position: number, length: number): Buffer {
    const parts: Buffer[] = [];
    let at = 0;
    for (const extent of this.map) {
      if (extent.kind !== 'data') continue;
      const from = Math.max(position, at);
      const to = Math.min(position + length, at + extent.length);
      if (from < to) parts.push(this.#disk.subarray(extent.offset + from - at, extent.offset + to - at));
      at += extent.length;
    }
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.from(Buffer.concat(parts));
  }
}
