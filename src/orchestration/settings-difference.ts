/** Is the schedule that is there the one that was asked for? */
import type { ScheduleSettings, ScheduleSpec } from '../contract/schedule.ts';
import { formatDuration } from '../lib/durations.ts';
import { formatRate } from '../lib/sizes.ts';

interface Described {
  readonly spec: ScheduleSpec;
  readonly settings: ScheduleSettings;
}

/**
 * Names in words what differs between a living schedule and a wanted one: its uuid and pause do not count.
 * @returns null when they are equal, else such as `--every is 15m, not 30m`
 */
export function scheduleDifference(living: Described, wanted: Described): string | null {
  const compared: readonly (readonly [string, string | null, string | null])[] = [
    ['--source', living.spec.sourceSite, wanted.spec.sourceSite],
    ['--host', living.spec.host, wanted.spec.host],
    ['its type', living.settings.type, wanted.settings.type],
    ['--every', duration(living.settings.everyMs), duration(wanted.settings.everyMs)],
    ['--cron', living.settings.cron, wanted.settings.cron],
    ['--tz', living.settings.timeZone, wanted.settings.timeZone],
    ['--not-between', windows(living.settings), windows(wanted.settings)],
    ['--rpo', duration(living.settings.rpoMs), duration(wanted.settings.rpoMs)],
    ['--bandwidth', rate(living.settings), rate(wanted.settings)],
  ];
  const differences = compared
    .filter(([, left, right]) => left !== right)
    .map(([name, left, right]) => `${name} is ${left ?? 'not set'}, not ${right ?? 'unset'}`);
  return differences.length === 0 ? null : differences.join(', ');
}

const duration = (ms: number | null): string | null => (ms === null ? null : formatDuration(ms));

const windows = ({ notBetween }: ScheduleSettings): string | null => (notBetween ?? []).join(' and ') || null;

/** Two rates may look alike when rounded; the exact bytes tell them apart. */
const rate = ({ bandwidthBytesPerSecond: bytes }: ScheduleSettings): string | null =>
  bytes === null ? null : `${formatRate(bytes)} (${bytes} bytes/s)`;
