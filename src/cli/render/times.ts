/** Times and spans for people. */
import { formatDuration } from '../../lib/durations.ts';

const DAY_MS = 24 * 3600 * 1000;

/**
 * A span with its two largest units: `3m20s`, `2d4h`.
 * @param spanMs null for unknown
 */
export function renderSpan(spanMs: number | null): string {
  if (spanMs === null) return '-';
  const parts = formatDuration(spanMs).match(/\d+[a-z]/g) ?? [];
  return parts.slice(0, 2).join('');
}

/** A time in UTC to the second, with how far it is from now when that is less than a day: `2026-11-24 02:00:00Z (in 5m)`. */
export function renderTime(iso: string | null, nowMs: number): string {
  if (iso === null) return '-';
  const distanceMs = Date.parse(iso) - nowMs;
  const time = `${iso.slice(0, 19).replace('T', ' ')}Z`;
  if (Math.abs(distanceMs) >= DAY_MS) return time;
  if (Math.abs(distanceMs) < 1000) return `${time} (now)`;
  return `${time} (${distanceMs > 0 ? `in ${renderSpan(distanceMs)}` : `${renderSpan(-distanceMs)} ago`})`;
}
