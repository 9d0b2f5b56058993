/** Opens what a disk is compared with: the likeliest image of it that is here and can be read. */
import { realpath } from 'node:fs/promises';
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import type { CompareCandidate } from '../catalog/replica-comparison.ts';
import { OffsiteError, PlanBrokenError } from '../domain/errors.ts';
import type { MapShape } from '../domain/extent-map.ts';
import { type OpenedCompareBase, openCompareBase } from '../images/replica/compare-base.ts';
import { doubtSealedFile } from '../images/replica/sealed-file.ts';
import { createXxh128, toHex } from '../lib/digest.ts';
import { encodeHashes } from '../transfer/messages.ts';
import type { CompareBase, SessionRecord } from '../transfer/ports.ts';

/** So many published replicas are tried before everything is sent. */
const MOST_CANDIDATES = 3;

export interface OpenBaseInput {
  readonly catalog: ReplicaCatalog;
  readonly replicaRoot: string;
  readonly seedRoots?: readonly string[];
  readonly session: SessionRecord;
  readonly shape: MapShape;
}

/** @returns why nothing is of use, in words, once that is noted @throws {PlanBrokenError} */
export async function openBase(input: OpenBaseInput): Promise<CompareBase | { readonly none: string }> {
  const { catalog, session } = input;
  const { diskTaskUuid } = session;
  if ((await catalog.findComparison(diskTaskUuid))?.method !== 'compare') {
    throw new PlanBrokenError('this disk was not planned to be compared');
  }
  const faults: string[] = [];
  for (const candidate of await catalog.compareCandidates(diskTaskUuid, MOST_CANDIDATES)) {
    try {
      return new CandidateBase(input, candidate, await openCandidate(input, candidate));
    } catch (error) {
      if (!(error instanceof OffsiteError)) throw error;
      faults.push(`${candidate.text}: ${error.message}`);
    }
  }
  const text = `everything is sent, as nothing here is of use: ${faults.join('; ') || 'nothing is left of this disk'}`;
  await catalog.settleComparison({
    diskTaskUuid,
    epoch: session.epoch,
    comparison: {
      ...{ kind: 'none', path: null, format: 'qcow2', seedUuid: null, isProven: false, token: null },
      ...{ guestDigest: null, text },
    },
    baseStorageId: null,
  });
  return { none: text };
}

function openCandidate(
  { replicaRoot, seedRoots = [], shape }: OpenBaseInput,
  { kind, path, format, layers }: CompareCandidate,
): Promise<OpenedCompareBase> {
  const digests = layers.map(({ sealed }) => sealed?.contentDigest ?? '');
  return openCompareBase({
    topPath: path,
    topFormat: format,
    imageRoots: kind === 'seed' ? seedRoots : [replicaRoot],
    shape,
    expected: kind === 'seed' ? null : digests,
  });
}

class CandidateBase implements CompareBase {
  readonly text: string;
  readonly #input: OpenBaseInput;
  readonly #candidate: CompareCandidate;
  readonly #opened: OpenedCompareBase;
  /** Over all that was said, so that it names what was hashed. */
  readonly #said = createXxh128();

  constructor(input: OpenBaseInput, candidate: CompareCandidate, opened: OpenedCompareBase) {
    this.#input = input;
    this.#candidate = candidate;
    this.#opened = opened;
    this.text = candidate.text;
  }

  async *runs() {
    this.#said.update(Buffer.from(`${this.#candidate.path}\n`));
    for await (const run of this.#opened.runs()) {
      this.#said.update(encodeHashes(run));
      yield run;
    }
  }

  async settle(): Promise<{ token: Uint8Array; text: string }> {
    const { catalog, session } = this.#input;
    const { kind, path, format, seedUuid, storageId, text: what } = this.#candidate;
    await this.#noteDamage();
    const doubt = await this.#doubt();
    const text =
      doubt === null
        ? `compared with ${what}, which is proven`
        : `compared with ${what}, and written as a whole image: ${doubt}`;
    const token = this.#said.digest();
    const isProven = doubt === null;
    await catalog.settleComparison({
      diskTaskUuid: session.diskTaskUuid,
      epoch: session.epoch,
      comparison: {
        ...{ kind, path, format, seedUuid, isProven, token: toHex(token), guestDigest: null, text },
      },
      baseStorageId: storageId,
    });
    return { token, text };
  }

  close(): Promise<void> {
    return this.#opened.close();
  }

  /** Whoever reads a replica tells what of it is damaged: it is no base for others, either. */
  async #noteDamage(): Promise<void> {
    const { catalog } = this.#input;
    for (const { path, fault } of this.#opened.damage) {
      const layer = this.#candidate.layers.find(candidate => candidate.path === path);
      if (layer?.sealed != null) await catalog.noteDamage({ node: layer.node, path, reason: fault });
    }
  }

  /** What speaks against an overlay over the image, in words. */
  async #doubt(): Promise<string | null> {
    const { kind, mayCarry, layers } = this.#candidate;
    if (kind === 'seed') return 'an image that was brought is no base for later ones';
    if (this.#opened.doubt !== null) return `it is in doubt (${this.#opened.doubt})`;
    for (const layer of layers) {
      const doubt = layer.damage?.reason ?? (await doubtSealedFile(layer.path, layer.sealed));
      if (doubt !== null) return `it is in doubt (${layer.path}: ${doubt})`;
    }
    if (!(await this.#isWholeChain())) return 'its files name others than the catalog';
    return mayCarry ? null : 'no layer may stand on it';
  }

  async #isWholeChain(): Promise<boolean> {
    const { layers } = this.#candidate;
    const known = await Promise.all(layers.map(({ path }) => realpath(path)));
    const opened = this.#opened.realPaths;
    return known.length === opened.length && known.every((path, index) => path === opened[index]);
  }
}
