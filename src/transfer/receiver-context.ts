/** What every conversation of one receiver shares. */
import type { Log } from '../lib/log.ts';
import type { DiskRegistry } from './disk-registry.ts';
import type { ReceiverLimits } from './limits.ts';
import type { SessionDirectory } from './ports.ts';
import type { QuietLog } from './quiet-log.ts';

export interface ReceiverContext {
  readonly directory: SessionDirectory;
  readonly registry: DiskRegistry;
  readonly limits: ReceiverLimits;
  readonly log: Log;
  /** For what anybody who reaches the port can cause. */
  readonly strangers: QuietLog;
  /** Bounds what connections that are not admitted yet ask of the catalog. */
  readonly lookup: <T>(work: () => Promise<T>) => Promise<T>;
  readonly nowMs: () => number;
}
