/** Brings the catalog's layouts and the files of replicas together: proving, sealing and dropping. */
import { join, resolve, sep } from 'node:path';
import type { ReplicaFiles } from '../activities/replica-ports.ts';
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import { OffsiteError, PlanBrokenError } from '../domain/errors.ts';
import { removeReplicaFiles } from '../images/replica/remove.ts';
import { sealPartial } from '../images/replica/seal.ts';
import { sealedFileOf } from '../images/replica/sealed-file.ts';
import type { SpaceKeeper } from '../images/replica/space.ts';
import { sealStandAlone } from '../images/replica/stand-alone.ts';
import { createLease } from './lease.ts';
import { createReplicaGround, type ReplicaGround } from './replica-ground.ts';

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
  /** By default one that takes the folder as it is. */
  ground?: ReplicaGround;
  /** As in `createSessionDirectory`. */
  seedRoots?: readonly string[];
  /** The clock of {@link createLease}. */
  nowMs?: () => number;
}): ReplicaFiles {
  const { catalog, replicaRoot, node, space, seedRoots = [], nowMs } = parts;
  const { ground = createReplicaGround({ catalog, node }) } = parts;
  const oneAtATime = createQueues();

  async function sealedMeanwhile(diskTaskUuid: string): Promise<Error | null> {
    const layout = await catalog.findLayout(diskTaskUuid);
    if (layout === null) return new PlanBrokenError('the file is being removed');
    return layout.state === 'partial' ? null : new SealedMeanwhileError(layout.finalName);
  }

  return {
    async seal(diskTaskUuid, { contentDigest }, { signal, onProgress } = {}) {
      const layout = await catalog.findLayout(diskTaskUuid);
      if (layout === null) throw new PlanBrokenError(`disk task ${diskTaskUuid} has no layout`);
      const { directory, finalName, standsAlone, backing, compared } = layout;
      const path = join(directory, finalName);
      await ground.assertThere();
      const input = { directory, finalName, contentDigest };
      // An attempt that Temporal gave up may still copy for a moment.
      return oneAtATime(path, async () => {
        // An unproven base is proven by what comes of it: the whole disk, as its sender read it.
        const isUnproven = compared !== null && !compared.isProven;
        const proveBase = isUnproven ? undefined : () => ground.proveBase(diskTaskUuid);
        if (standsAlone) {
          const standAlone = {
            ...{ ...input, imageRoots: [replicaRoot, ...seedRoots], space, signal, onProgress, proveBase },
            guestDigest: compared?.guestDigest ?? null,
            assertUnsealed: createLease(() => sealedMeanwhile(diskTaskUuid), nowMs).renew,
          };
          await ground.notingDamage(diskTaskUuid, () => sealStandAlone(standAlone));
        } else {
          // Hours may lie between the plan and now.
          if (backing !== null) await proveBase?.();
          await sealPartial(input);
        }
        return { path, file: await sealedFileOf(path) };
      });
    },

    async doubts(chains) {
      await ground.assertThere();
      const found = await Promise.all(
        chains.map(async chain => ({ disk: chain.disk, doubt: await ground.doubtOf(chain) })),
      );
      return found.flatMap(({ disk, doubt }) => (doubt === null ? [] : [{ disk, doubt }]));
    },

    async remove(files) {
      const own = files.filter(file => file.node === node);
      // In a folder that is not mounted nothing would be found, and the files would be nobody's.
      if (own.length > 0) await ground.assertThere();
      let removed = 0;
      for (const { path } of own) {
        if (!resolve(path).startsWith(resolve(replicaRoot) + sep)) throw new OutsideReplicaRootError(path);
        removed += await removeReplicaFiles(path);
      }
      return removed;
    },
  };
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
