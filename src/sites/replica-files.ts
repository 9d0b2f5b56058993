/** Brings the catalog's layouts and the files of replicas together: proving, sealing and dropping. */
import { join, resolve, sep } from 'node:path';
import type { ReplicaFiles } from '../activities/replica-ports.ts';
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import { OffsiteError, PlanBrokenError } from '../domain/errors.ts';
import type { ReplicaChain } from '../domain/sealed-file.ts';
import { removeReplicaFiles } from '../images/replica/remove.ts';
import { sealPartial } from '../images/replica/seal.ts';
import { doubtSealedFile, sealedFileOf } from '../images/replica/sealed-file.ts';
import type { SpaceKeeper } from '../images/replica/space.ts';
import { sealStandAlone } from '../images/replica/stand-alone.ts';
import { createLease } from './lease.ts';

class OutsideReplicaRootError extends OffsiteError {
  constructor(path: string) {
    super('OutsideReplicaRoot', `${path} does not lie under the replica folder`, 'Nothing was removed.');
  }
}

/** The next attempt finds it sealed. */
class SealedMeanwhileError extends OffsiteError {
  constructor(finalName: string) {
    super('SealedMeanwhile', `another attempt has sealed ${finalName}`, 'It is tried again by itself.');
  }
}

export function createReplicaFiles(parts: {
  catalog: ReplicaCatalog;
  replicaRoot: string;
  node: string;
  /** As in `createSessionDirectory`. */
  space?: SpaceKeeper;
  /** The clock of {@link createLease}. */
  nowMs?: () => number;
}): ReplicaFiles {
  const { catalog, replicaRoot, node, space, nowMs } = parts;
  const oneAtATime = createQueues();

  async function proveBase(diskTaskUuid: string): Promise<void> {
    const doubt = await doubtOfChain(await catalog.baseChain(diskTaskUuid), node);
    if (doubt !== null) throw new PlanBrokenError(`the replica's base is in doubt: ${doubt}`);
  }

  async function sealedMeanwhile(diskTaskUuid: string): Promise<Error | null> {
    const layout = await catalog.findLayout(diskTaskUuid);
    if (layout === null) return new PlanBrokenError('the file is being removed');
    return layout.state === 'partial' ? null : new SealedMeanwhileError(layout.finalName);
  }

  return {
    async seal(diskTaskUuid, { contentDigest }, { signal, onProgress } = {}) {
      const layout = await catalog.findLayout(diskTaskUuid);
      if (layout === null) throw new PlanBrokenError(`disk task ${diskTaskUuid} has no layout`);
      const { directory, finalName, standsAlone } = layout;
      const path = join(directory, finalName);
      const input = { directory, finalName, contentDigest };
      // An attempt that Temporal gave up may still copy for a moment.
      return oneAtATime(path, async () => {
        await (standsAlone
          ? sealStandAlone({
              ...input,
              imageRoots: [replicaRoot],
              proveBase: () => proveBase(diskTaskUuid),
              space,
              signal,
              onProgress,
              assertUnsealed: createLease(() => sealedMeanwhile(diskTaskUuid), nowMs).renew,
            })
          : sealPartial(input));
        return { path, file: await sealedFileOf(path) };
      });
    },

    async doubts(chains) {
      const found = await Promise.all(
        chains.map(async chain => ({ disk: chain.disk, doubt: await doubtOfChain(chain, node) })),
      );
      return found.flatMap(({ disk, doubt }) => (doubt === null ? [] : [{ disk, doubt }]));
    },

    async remove(files) {
      let removed = 0;
      for (const { path } of files.filter(file => file.node === node)) {
        if (!resolve(path).startsWith(resolve(replicaRoot) + sep)) throw new OutsideReplicaRootError(path);
        removed += await removeReplicaFiles(path);
      }
      return removed;
    },
  };
}

/** The first doubt about a chain's files on this node, from the top; those of other nodes cannot be looked at here. */
async function doubtOfChain({ layers }: ReplicaChain, node: string): Promise<string | null> {
  if (layers.length === 0) return 'no file of it is known';
  for (const [index, layer] of layers.entries()) {
    if (layer.node !== node) continue;
    const doubt = await doubtSealedFile(layer.path, layer.sealed);
    if (doubt !== null) return `layer ${index + 1} of ${layers.length} from the top, ${layer.path}: ${doubt}`;
  }
  return null;
}

type Work<T> = () => Promise<T>;

/** Runs works of one key one after the other, whatever becomes of the earlier ones. */
function createQueues(): <T>(key: string, work: Work<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>();
  return async <T>(key: string, work: Work<T>) => {
    const before = last.get(key) ?? Promise.resolve();
    const running = before.then(work, work);
    last.set(key, running);
    try {
      return await running;
    } finally {
      if (last.get(key) === running) last.delete(key);
    }
  };
}
