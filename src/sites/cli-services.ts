/** What the command line needs of a site, composed. The shapes of src/cli/ports.ts are checked where they are used. */
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';
import { startWorkerProcess, type WorkerProcess } from './worker-process.ts';

export { recordHost } from './recorder.ts';
export { markHost } from './recorder-control.ts';
export { openReplicaFileService } from './replica-file-service.ts';
export { openReplicaInventory } from './replica-inventory.ts';
export { openReplicaSeeds } from './replica-seeds.ts';
export { openReplicaVerifier } from './replica-verification.ts';
export { setup } from './setup.ts';
export { openSourceInventory } from './source-inventory.ts';
export { openSourceSpaceService } from './source-space-service.ts';

/** Starts this node's worker; resolves when it polls. */
export async function runWorker(config: SiteConfig, signal?: AbortSignal): Promise<WorkerProcess> {
  if (config.source === undefined && config.replica === undefined) {
    throw new OffsiteError(
      'RoleMissing',
      'this node is neither source nor replica',
      "Add a 'source' or a 'replica' section to its configuration.",
    );
  }
  return startWorkerProcess(config, signal ?? new AbortController().signal);
}
