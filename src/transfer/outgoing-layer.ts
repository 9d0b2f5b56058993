/** A layer on its way out: its source, the digests of its map and content, and how much was sent. */
import { ContentDigester, mapDigest } from '../domain/content-digest.ts';
import { createXxh128 } from '../lib/digest.ts';
import type { ComparedOffer } from './messages.ts';
import type { LayerSource } from './ports.ts';

/** Lives as long as the sender: a new connection goes on with what was hashed before. */
export class OutgoingLayer {
  readonly source: LayerSource;
  readonly compared: ComparedOffer | null;
  readonly mapDigest: Uint8Array;
  readonly dataBytes: number;
  bytesSent = 0;
  readonly #digester: ContentDigester;
  #contentDigest: Uint8Array | null = null;

  /** @param compared of a source whose map came of a comparison */
  constructor(source: LayerSource, compared: ComparedOffer | null = null) {
    this.source = source;
    this.compared = compared;
    this.mapDigest = mapDigest(source.map, createXxh128);
    this.dataBytes = source.map.dataBytes;
    this.#digester = new ContentDigester(source.map, createXxh128);
  }

  /** So much of the data stream was hashed. */
  get hashedBytes(): number {
    return this.#digester.taken;
  }

  /** Hashes what of these bytes was not hashed before. `position` must not lie beyond {@link hashedBytes}. */
  hash(bytes: Buffer, position: number): void {
    const known = this.#digester.taken - position;
    if (known < bytes.length) this.#digester.update(bytes.subarray(known));
  }

  /** @throws {RangeError} before all was hashed */
  contentDigest(): Uint8Array {
    this.#contentDigest ??= this.#digester.finish();
    return this.#contentDigest;
  }
}
