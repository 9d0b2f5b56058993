/** Instants near where clocks are put forward and back, in zones that do it oddly, and expressions that hit them. */
import fc from 'fast-check';
import { offsetChange, zoneOffset } from '../../../src/domain/wall-clock.ts';

/** Half an hour, two hours, at midnight, in Ramadan, across the date line, 45 minutes, and not at all. */
const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'America/Sao_Paulo',
  'America/St_Johns',
  'Australia/Lord_Howe',
  'Antarctica/Troll',
  'Africa/Casablanca',
  'Asia/Gaza',
  'Asia/Kathmandu',
  'Pacific/Apia',
  'Pacific/Chatham',
  'Asia/Tehran',
];
export const aZone = fc.constantFrom(...ZONES);

const HOUR_MS = 3_600_000;
const WEEK_MS = 7 * 24 * HOUR_MS;
const FROM_MS = Date.UTC(2010, 0, 1);
const TO_MS = Date.UTC(2032, 0, 1);

/** All changes of the offsets of all zones. */
export const CHANGES: readonly number[] = ZONES.flatMap(zone => {
  const offset = zoneOffset(zone);
  const changes: number[] = [];
  for (let atMs = FROM_MS; atMs < TO_MS; atMs += WEEK_MS) {
    if (offset(atMs) !== offset(atMs + WEEK_MS)) changes.push(offsetChange(offset, atMs, atMs + WEEK_MS));
  }
  return changes;
});

export const anInstant = fc.oneof(
  fc.integer({ min: FROM_MS, max: TO_MS }),
  fc
    .tuple(fc.constantFrom(...CHANGES), fc.integer({ min: -26 * HOUR_MS, max: 26 * HOUR_MS }))
    .map(([changeMs, byMs]) => changeMs + byMs),
  fc
    .tuple(fc.constantFrom(...CHANGES), fc.integer({ min: -52, max: 52 }))
    .map(([changeMs, halves]) => changeMs + (halves * HOUR_MS) / 2),
);

const value = (min: number, max: number) => fc.integer({ min, max }).map(String);
const steps = (max: number) => fc.integer({ min: 1, max }).map(step => `*/${step}`);
const range = (min: number, max: number) =>
  fc
    .tuple(fc.integer({ min, max }), fc.integer({ min, max }))
    .map(([one, other]) => `${Math.min(one, other)}-${Math.max(one, other)}`);
const field = (min: number, max: number) =>
  fc.oneof(
    { weight: 3, arbitrary: fc.constant('*') },
    { weight: 3, arbitrary: value(min, max) },
    { weight: 1, arbitrary: steps(max) },
    { weight: 1, arbitrary: range(min, max) },
    {
      weight: 1,
      arbitrary: fc.array(value(min, max), { minLength: 2, maxLength: 3 }).map(all => all.join()),
    },
  );

/** Many are near the hours in which clocks are changed; some name a day that comes once in years, or never. */
export const aCron = fc.oneof(
  fc
    .tuple(field(0, 59), fc.oneof(field(0, 3), field(0, 23)))
    .map(([minute, hour]) => `${minute} ${hour} * * *`),
  fc
    .tuple(field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6))
    .map(fields => fields.join(' ')),
  fc.constantFrom('0 0 29 2 *', '0 0 29 2 +MON', '59 23 L * *', '0 2 * * 7#1', '@hourly', '@monthly'),
);
