/** What every conversation of one receiver shares. */
import type { Log } from '../lib/log.ts';
import type { DiskRegistry } from './disk-registry.ts';
import type { ReceiverLimits } from './limits.ts';
import type { SessionDirectory } from './ports.ts';

export interface ReceiverContext {
  readonly directory: SessionDirectory;
  readonly registry: DiskRegistry;
  readonly limits: ReceiverLimits;
  readonly log: Log;
  readonly nowMs: () => number;
}
