/** What a schedule's settings may be; the CLI and the workflow ask the same rules. */
import { IDENT, SITE_NAME, UUID } from '../contract/names.ts';
import type { ScheduleSettings, ScheduleSpec } from '../contract/schedule.ts';
import { blackoutFaults } from './blackout.ts';
import { cronFault } from './cron.ts';
import { timeZoneFault } from './wall-clock.ts';

export const MIN_EVERY_MS = 1_000;
export const MAX_EVERY_MS = 366 * 24 * 3600 * 1000;

/** @returns what is wrong, a sentence each; empty when the settings may be used */
export function settingsFaults(settings: ScheduleSettings): readonly string[] {
  return [
    ...timingFaults(settings),
    ...blackoutFaults(settings.notBetween ?? []),
    ...timeZoneFaults(settings),
    ...positiveFaults('the RPO, in milliseconds,', settings.rpoMs),
    ...positiveFaults('the bandwidth, in bytes per second,', settings.bandwidthBytesPerSecond),
  ];
}

/** @returns what is wrong with the names of a schedule, a sentence each */
export function specFaults(spec: ScheduleSpec): readonly string[] {
  return [
    ...nameFaults('the schedule', spec.name, IDENT, IDENT_RULE),
    ...nameFaults('the replica site', spec.replicaSite, SITE_NAME, SITE_RULE),
    ...nameFaults('the source site', spec.sourceSite, SITE_NAME, SITE_RULE),
    ...nameFaults('the host', spec.host, IDENT, IDENT_RULE),
    ...(UUID.test(spec.uuid) ? [] : [`the schedule's uuid ${quoted(spec.uuid)} is not a lower-case UUID`]),
    ...(spec.replicaSite === spec.sourceSite ? ['the source site and the replica site are the same'] : []),
  ];
}

/** True when two settings mean the same schedule. */
export function sameSettings(left: ScheduleSettings, right: ScheduleSettings): boolean {
  return (
    left.type === right.type &&
    left.everyMs === right.everyMs &&
    left.cron === right.cron &&
    left.timeZone === right.timeZone &&
    (left.notBetween ?? []).join() === (right.notBetween ?? []).join() &&
    left.rpoMs === right.rpoMs &&
    left.bandwidthBytesPerSecond === right.bandwidthBytesPerSecond
  );
}

const IDENT_RULE = 'letters, digits, dot, underscore and dash, at most 64, the first a letter or digit';
const SITE_RULE = 'small letters, digits and dash, at most 32, the first a letter';

/** Odd characters are shown escaped, so that a message stays one line. */
const quoted = (text: string): string => JSON.stringify(text);

const nameFaults = (what: string, name: string, rule: RegExp, words: string): string[] =>
  rule.test(name) ? [] : [`${what} ${quoted(name)} has a name that is not allowed: ${words}`];

function timingFaults({ type, everyMs, cron }: ScheduleSettings): string[] {
  if (type === 'continuous') {
    if (everyMs === null && cron === null) return [];
    return ['a continuous schedule has neither an interval nor a cron expression'];
  }
  if (type !== 'interval') return [`there is no schedule type ${quoted(type)}`];
  if (everyMs !== null && cron !== null)
    return ['an interval schedule runs by an interval or by cron, not both'];
  if (cron !== null) return [cronFault(cron)].filter(fault => fault !== null);
  if (everyMs === null) return ['an interval schedule needs the time between two runs, or a cron expression'];
  if (!Number.isSafeInteger(everyMs))
    return [`the interval ${everyMs} is not a whole number of milliseconds`];
  if (everyMs < MIN_EVERY_MS) return ['the interval is shorter than 1 second'];
  if (everyMs > MAX_EVERY_MS) return ['the interval is longer than 366 days'];
  return [];
}

/** A time zone may stand without a cron expression and blackout hours: an update may take these away. */
function timeZoneFaults({ timeZone }: ScheduleSettings): string[] {
  return timeZone === null ? [] : [timeZoneFault(timeZone)].filter(fault => fault !== null);
}

function positiveFaults(what: string, value: number | null): string[] {
  if (value === null || (Number.isSafeInteger(value) && value > 0)) return [];
  return [`${what} must be a whole number above zero`];
}
