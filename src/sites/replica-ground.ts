/** What a new layer stands on at this node: the folder of replicas, and the files of its base. */
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import { PlanBrokenError } from '../domain/errors.ts';
import type { NodeFile, ReplicaChain, ReplicaLayer } from '../domain/sealed-file.ts';
import { ReplicaFileError } from '../images/replica/errors.ts';
import { doubtSealedFile } from '../images/replica/sealed-file.ts';
import type { ReplicaRoot } from './replica-root.ts';

export interface ReplicaGround extends ReplicaRoot {
  /**
   * The first doubt about a chain, from the top. What is seen of its files here is noted in the catalog, so that a
   * plan which is made on another node knows it, too.
   */
  doubtOf(chain: Pick<ReplicaChain, 'layers'>): Promise<string | null>;
  /** @throws {PlanBrokenError} when the disk task's base is not what it was when it was sealed */
  proveBase(diskTaskUuid: string): Promise<void>;
  /**
   * Runs a copy that verifies what it reads. A layer of the base whose bytes are not those that were sealed is noted,
   * and is no base any more. @throws {PlanBrokenError} for such a layer @throws what `copy` throws
   */
  notingDamage<T>(diskTaskUuid: string, copy: () => Promise<T>): Promise<T>;
}

export function createReplicaGround(parts: {
  catalog: Pick<ReplicaCatalog, 'baseChain' | 'noteDoubts' | 'noteDamage'>;
  node: string;
  /** Without it the folder is taken as it is. */
  root?: ReplicaRoot;
}): ReplicaGround {
  const { catalog, node, root } = parts;

  async function doubtOf({ layers }: Pick<ReplicaChain, 'layers'>): Promise<string | null> {
    const { doubt, seen } = await lookAt(layers, node);
    if (seen.length > 0) await catalog.noteDoubts(seen);
    return doubt;
  }

  return {
    assertThere: async () => root?.assertThere(),
    doubtOf,

    async proveBase(diskTaskUuid) {
      const doubt = await doubtOf(await catalog.baseChain(diskTaskUuid));
      if (doubt !== null) throw new PlanBrokenError(`the replica's base is in doubt: ${doubt}`);
    },

    async notingDamage(diskTaskUuid, copy) {
      try {
        return await copy();
      } catch (error) {
        if (!(error instanceof ReplicaFileError)) throw error;
        const path = error.path.replace(/\.digests$/, '');
        const { layers } = await catalog.baseChain(diskTaskUuid);
        if (!layers.some(layer => layer.path === path)) throw error;
        await catalog.noteDamage({ node, path, reason: error.fault });
        throw new PlanBrokenError(`the replica's base is damaged: ${error.message}`, { cause: error });
      }
    },
  };
}

interface Look {
  /** The first doubt, from the top; null for none. */
  readonly doubt: string | null;
  /** The files whose doubts the catalog has otherwise. */
  readonly seen: readonly (NodeFile & { readonly doubt: string | null })[];
}

/** Looks at the files of a chain on this node; of those of other nodes only what was noted is known. */
async function lookAt(layers: readonly ReplicaLayer[], node: string): Promise<Look> {
  if (layers.length === 0) return { doubt: 'no file of it is known', seen: [] };
  const seen: (NodeFile & { doubt: string | null })[] = [];
  let first: string | null = null;
  for (const [index, layer] of layers.entries()) {
    const { path, sealed, damage } = layer;
    let doubt = damage?.reason ?? null;
    if (layer.node === node && damage?.kind !== 'content') {
      doubt = await doubtSealedFile(path, sealed);
      if (doubt !== (damage?.reason ?? null)) seen.push({ node, path, doubt });
    }
    if (doubt !== null) first ??= `layer ${index + 1} of ${layers.length} from the top, ${path}: ${doubt}`;
  }
  return { doubt: first, seen };
}
