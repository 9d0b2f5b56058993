/** The senders that run in this process, so that a request to stop finds them. */
import type { RunningSenders } from '../activities/source-ports.ts';

export interface RunningSenderSet extends RunningSenders {
  /** Aborts every sender of the disk task. @returns false when there is none */
  stop(diskTaskUuid: string): boolean;
  /** How many disks are being sent. */
  count(): number;
}

export function createRunningSenders(): RunningSenderSet {
  const controllers = new Map<string, Set<AbortController>>();
  return {
    register(diskTaskUuid, stop) {
      const set = controllers.get(diskTaskUuid) ?? new Set();
      controllers.set(diskTaskUuid, set.add(stop));
      return () => {
        set.delete(stop);
        if (set.size === 0) controllers.delete(diskTaskUuid);
      };
    },
    stop(diskTaskUuid) {
      const found = controllers.get(diskTaskUuid);
      for (const controller of found ?? []) controller.abort();
      return found !== undefined;
    },
    count: () => controllers.size,
  };
}
