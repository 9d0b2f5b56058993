/** Watches the free space below a source's image folders, says when it is low, and where it is told to, lets go. */
import type { GuardRelease, LowSpace } from '../catalog/source-guard.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { freeSpaceAt } from '../images/replica/durable-files.ts';
import { parseDuration } from '../lib/durations.ts';
import type { Log } from '../lib/log.ts';
import { formatSize, parseSizeOrShare, type SizeOrShare, sizeOf } from '../lib/sizes.ts';

const LOOK_MS = 30_000;
/** Between two releases whoever deletes snapshots has time to do so. */
const RELEASE_EVERY_MS = 10 * 60_000;

/** How an image folder's file system stands. */
export interface FolderSpace {
  readonly folder: string;
  readonly freeBytes: number;
  readonly sizeBytes: number;
  /** Below this it is low; null without a guard. */
  readonly freeBelowBytes: number | null;
  readonly isLow: boolean;
}

export interface GuardLimits {
  readonly freeBelow: SizeOrShare;
  /** Schedules that have been silent for so long may lose their locks while space is low; null: never. */
  readonly releaseIdleAfterMs: number | null;
}

/** What the configuration says; null without a guard. */
export function guardLimitsOf({ source }: SiteConfig): GuardLimits | null {
  if (source?.guard === undefined) return null;
  const { freeBelow, releaseIdleAfter } = source.guard;
  return {
    freeBelow: parseSizeOrShare(freeBelow),
    releaseIdleAfterMs: releaseIdleAfter === undefined ? null : parseDuration(releaseIdleAfter),
  };
}

/** Looks at each folder; one that cannot be looked at is left out. */
export async function lookAtFolders(
  folders: readonly string[],
  limits: GuardLimits | null,
): Promise<readonly FolderSpace[]> {
  const found = await Promise.all(
    folders.map(async folder => {
      const space = await freeSpaceAt(folder).catch(() => null);
      if (space === null) return [];
      const { freeBytes, sizeBytes } = space;
      const freeBelowBytes = limits === null ? null : sizeOf(limits.freeBelow, sizeBytes);
      const isLow = freeBelowBytes !== null && freeBytes < freeBelowBytes;
      return [{ folder, freeBytes, sizeBytes, freeBelowBytes, isLow }];
    }),
  );
  return found.flat();
}

/** What an operator is to know while space is low; null when it is not. */
export function lowSpaceWarning(site: string, folders: readonly FolderSpace[]): string | null {
  const low = folders.filter(({ isLow }) => isLow);
  if (low.length === 0) return null;
  const each = low.map(
    ({ folder, freeBytes, sizeBytes, freeBelowBytes }) =>
      `${folder} has ${formatSize(freeBytes)} of ${formatSize(sizeBytes)} free, below ${formatSize(freeBelowBytes ?? 0)}`,
  );
  return `site ${site} is low on space (${each.join('; ')}), and what schedules lock cannot be deleted there`;
}

export interface SourceGuard {
  /** As last looked at. */
  folders(): readonly FolderSpace[];
  /** For the answers to schedules; null while space is not low. */
  warning(): string | null;
  close(): Promise<void>;
}

/**
 * Looks at once and then each half minute.
 * @param parts.releaseIdlest releases one schedule's locks
 * @param parts.nowMs a clock that only goes forward
 */
export async function startSourceGuard(parts: {
  site: string;
  imageRoots: readonly string[];
  limits: GuardLimits | null;
  releaseIdlest: (input: { idleMs: number; low: LowSpace }) => Promise<GuardRelease | null>;
  log: Log;
  lookMs?: number;
  releaseEveryMs?: number;
  nowMs?: () => number;
}): Promise<SourceGuard> {
  const { site, imageRoots, limits, releaseIdlest, log, nowMs = () => performance.now() } = parts;
  const { lookMs = LOOK_MS, releaseEveryMs = RELEASE_EVERY_MS } = parts;
  let folders: readonly FolderSpace[] = [];
  let wasLow = false;
  let releasedAtMs: number | null = null;

  async function look(): Promise<void> {
    folders = await lookAtFolders(imageRoots, limits);
    const warning = lowSpaceWarning(site, folders);
    if (warning !== null && !wasLow) log.warn({ event: 'space-low' }, warning);
    if (warning === null && wasLow) log.info({ event: 'space-enough' }, 'there is enough free space again');
    wasLow = warning !== null;
    const low = folders.find(({ isLow }) => isLow);
    if (low !== undefined) await mayRelease(low);
  }

  async function mayRelease(low: LowSpace): Promise<void> {
    const idleMs = limits?.releaseIdleAfterMs ?? null;
    const isTooSoon = releasedAtMs !== null && nowMs() - releasedAtMs < releaseEveryMs;
    if (idleMs === null || isTooSoon) return;
    const { folder, freeBytes } = low;
    const released = await releaseIdlest({ idleMs, low: { folder, freeBytes } });
    if (released === null) return;
    releasedAtMs = nowMs();
    log.warn(
      { event: 'guard-released', ...released },
      'space is low: the locks of the schedule that was silent longest were released',
    );
  }

  const lookOrSay = () =>
    look().catch(err => log.warn({ event: 'guard-failed', err }, 'the guard looks again later'));
  await lookOrSay();
  let running: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    running = running.then(lookOrSay);
  }, lookMs);
  return {
    folders: () => folders,
    warning: () => lowSpaceWarning(site, folders),
    async close() {
      clearInterval(timer);
      await running;
    },
  };
}
