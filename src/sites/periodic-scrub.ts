/** Verifies the replicas of this node at rest, each file as often as the configuration wants it. */
import type { SiteConfig } from '../config/site-config.ts';
import { parseDuration } from '../lib/durations.ts';
import type { Log } from '../lib/log.ts';
import { parseRate } from '../lib/sizes.ts';
import { type ScrubInput, scrubReplicas } from './replica-scrub.ts';

const LOOK_EVERY_MS = 60 * 60_000;
const DEFAULT_RATE = '20MiB/s';

/**
 * Looks at once and then each hour for files that are due, and reads them one after the other. What it finds is in the
 * catalog; the next task of the host's schedule sends again what the newest point lacks.
 */
export function startPeriodicScrub(
  parts: Pick<ScrubInput, 'catalog' | 'root' | 'node' | 'replicaRoot'> & {
    config: NonNullable<SiteConfig['replica']>['scrub'];
    log: Log;
    everyMs?: number;
  },
): { close(): Promise<void> } {
  const { config, log, everyMs = LOOK_EVERY_MS, ...where } = parts;
  if (config === undefined) return { close: async () => {} };
  const dueMs = parseDuration(config.every);
  const rateBytesPerSecond = parseRate(config.rate ?? DEFAULT_RATE);
  const stop = new AbortController();

  async function scrub(): Promise<void> {
    if (stop.signal.aborted) return;
    try {
      const { layers, damaged } = await scrubReplicas({
        ...{ ...where, rateBytesPerSecond, host: null, signal: stop.signal },
        olderThanMs: Date.now() - dueMs,
      });
      for (const { path, reason } of damaged) {
        log.error({ event: 'replica-damaged', path }, `a replica file is damaged: ${path}: ${reason}`);
      }
      if (layers > 0)
        log.info({ event: 'scrubbed', layers, damaged: damaged.length }, 'replicas were verified');
    } catch (error) {
      if (!stop.signal.aborted)
        log.warn({ event: 'scrub-failed', err: error }, 'replicas are verified later');
    }
  }

  let running = scrub();
  const timer = setInterval(() => {
    running = running.then(scrub);
  }, everyMs);
  return {
    async close() {
      clearInterval(timer);
      stop.abort(new Error('the worker ends'));
      await running;
    },
  };
}
