/** The senders that run in this process, so that a request to stop finds them. */
import type { RunningSenders } from '../activities/source-ports.ts';

export interface RunningSenderSet extends RunningSenders {
  /** Aborts every sender of the disk task; none may be there. */
  stop(diskTaskUuid: string): void;
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
      for (const controller of controllers.get(diskTaskUuid) ?? []) controller.abort();
    },
  };
}
