/** Brings the catalog's layouts and the files of replicas together: sealing and dropping. */
import { join, resolve, sep } from 'node:path';
import type { ReplicaFiles } from '../activities/replica-ports.ts';
import type { ReplicaCatalog } from '../catalog/replica-catalog.ts';
import { OffsiteError, PlanBrokenError } from '../domain/errors.ts';
import { removeReplicaFiles } from '../images/replica/remove.ts';
import { sealPartial } from '../images/replica/seal.ts';

class OutsideReplicaRootError extends OffsiteError {
  constructor(path: string) {
    super('OutsideReplicaRoot', `${path} does not lie under the replica folder`, 'Nothing was removed.');
  }
}

export function createReplicaFiles(parts: { catalog: ReplicaCatalog; replicaRoot: string }): ReplicaFiles {
  const { catalog, replicaRoot } = parts;
  return {
    async seal(diskTaskUuid, { contentDigest }) {
      const layout = await catalog.findLayout(diskTaskUuid);
      if (layout === null) throw new PlanBrokenError(`disk task ${diskTaskUuid} has no layout`);
      await sealPartial({
        directory: layout.directory,
        finalName: layout.finalName,
        contentDigest,
      });
      return { path: join(layout.directory, layout.finalName) };
    },
    async remove(paths) {
      let removed = 0;
      for (const path of paths) {
        if (!resolve(path).startsWith(resolve(replicaRoot) + sep)) throw new OutsideReplicaRootError(path);
        removed += await removeReplicaFiles(path);
      }
      return removed;
    },
  };
}
