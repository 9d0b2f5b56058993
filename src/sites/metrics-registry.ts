/** Every metric of a worker by name, and how a scrape fills them. docs/metrics.md is compared with this by a test. */
import { Counter, Gauge, type LabelValues, Registry } from 'prom-client';
import type {
  DamageReading,
  LockReading,
  ReceivedDiskName,
  ScheduleReading,
  SnapshotReading,
} from '../catalog/metrics-readings.ts';
import type { TaskOutcome } from '../contract/schedule.ts';
import { type ReceiverFindings, receiverMetrics } from './metrics-receiver.ts';
import { type SpaceFindings, spaceMetrics } from './metrics-space.ts';

/** What a scrape finds. A null part belongs to another role, or could not be read. */
export interface ScrapeFindings extends SpaceFindings, ReceiverFindings {
  readonly nowMs: number;
  readonly catalogUp: boolean;
  readonly temporalUp: boolean;
  readonly schedules: readonly ScheduleReading[] | null;
  readonly locks: readonly LockReading[] | null;
  readonly snapshots: readonly SnapshotReading[] | null;
  readonly damage: readonly DamageReading[] | null;
  readonly runningSenders: number;
}

export interface MetricsRegistry {
  /** One attempt of an activity has ended; `failure` is its code, null when it did not fail. */
  countAttempt(attempt: { activity: string; attempt: number; failure: string | null }): void;
  /** A task has ended. Told again, as by a retry, it is counted once. */
  countTask(task: { scheduleUuid: string; taskUuid: string; outcome: TaskOutcome }): void;
  /** Bytes were written to a replica file. */
  countReceived(disk: ReceivedDiskName, bytes: number): void;
  /** Everything in Prometheus' text format. */
  render(findings: ScrapeFindings): Promise<string>;
}

const OUTCOMES: readonly TaskOutcome[] = [
  'published',
  'upToDate',
  'waiting',
  'paused',
  'stopped',
  'superseded',
];
/** A peer may refuse with codes of its own making: beyond so many different ones they are counted together. */
const MOST_CODES = 64;
const OTHER_CODE = 'Other';
/** Of this many schedules and disks the counts are kept, the newest. */
const MOST_KEPT = 10_000;
/** Tasks that have ended are known for so long, against counting a retry. */
const MOST_TASKS = 1_000;

export function createMetricsRegistry(): MetricsRegistry {
  const registry = new Registry();
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: `offsite_${name}`, help, labelNames, registers: [registry] });
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Counter<L>({ name: `offsite_${name}`, help, labelNames, registers: [registry] });

  const catalogUp = gauge('catalog_up', 'Whether the catalog answered this scrape.');
  const temporalUp = gauge('temporal_up', 'Whether Temporal answered this scrape.');
  const fillSchedules = scheduleMetrics(gauge, counter);
  const fillSource = sourceMetrics(gauge);
  const fillSpace = spaceMetrics(gauge);
  const fillReceiver = receiverMetrics(gauge, counter);
  const snapshots = gauge(
    'host_snapshots',
    'Complete host snapshots in this catalog: registered ones, and published recovery points.',
    ['host'],
  );
  const damage = gauge(
    'replica_files_damaged',
    'Replica files of this site that are damaged (content) or in doubt until they are read (doubt).',
    ['host', 'kind'],
  );
  const attempts = counter('activity_attempts_total', 'Attempts of activities that have ended here.', [
    'activity',
  ]);
  const retries = counter(
    'activity_retries_total',
    'Attempts of activities that have ended here and were not the first.',
    ['activity'],
  );
  const failures = counter('activity_failures_total', 'Attempts of activities that failed here, by code.', [
    'activity',
    'code',
  ]);
  const codes = new Set<string>();
  const tasks = new Map<string, OutcomeCounts>();
  const received = new Map<string, ReceivedBytes>();
  const countedTasks = new Map<string, true>();

  return {
    countAttempt({ activity, attempt, failure }) {
      attempts.inc({ activity });
      retries.inc({ activity }, attempt > 1 ? 1 : 0);
      if (failure === null) return;
      if (codes.size < MOST_CODES) codes.add(failure);
      failures.inc({ activity, code: codes.has(failure) ? failure : OTHER_CODE });
    },

    countTask({ scheduleUuid, taskUuid, outcome }) {
      if (countedTasks.has(taskUuid)) return;
      keep(countedTasks, taskUuid, true, MOST_TASKS);
      const counts: OutcomeCounts = tasks.get(scheduleUuid) ?? new Map();
      keep(tasks, scheduleUuid, counts.set(outcome, (counts.get(outcome) ?? 0) + 1), MOST_KEPT);
    },

    countReceived(disk, bytes) {
      const key = `${disk.scheduleUuid}/${disk.disk}`;
      keep(received, key, { ...disk, bytes: (received.get(key)?.bytes ?? 0) + bytes }, MOST_KEPT);
    },

    render(findings) {
      catalogUp.set(findings.catalogUp ? 1 : 0);
      temporalUp.set(findings.temporalUp ? 1 : 0);
      fillSchedules(findings, tasks, received);
      fillSource(findings);
      fillSpace(findings);
      fillReceiver(findings);
      snapshots.reset();
      for (const { host, snapshots: count } of findings.snapshots ?? []) snapshots.set({ host }, count);
      damage.reset();
      for (const { host, kind, files } of findings.damage ?? []) damage.set({ host, kind }, files);
      return registry.metrics();
    },
  };
}

type MakeGauge = <L extends string>(name: string, help: string, labelNames?: readonly L[]) => Gauge<L>;
type MakeCounter = <L extends string>(name: string, help: string, labelNames: readonly L[]) => Counter<L>;

type OutcomeCounts = Map<TaskOutcome, number>;
type ReceivedBytes = ReceivedDiskName & { readonly bytes: number };
type ScheduleLabels = { readonly schedule: string; readonly host: string };

const SCHEDULE = ['schedule', 'host'] as const;

/** Those of the replica role. Counts are kept by uuid and shown by name, so that what is deleted goes. */
function scheduleMetrics(gauge: MakeGauge, counter: MakeCounter) {
  const age = gauge(
    'schedule_newest_point_age_seconds',
    "Seconds since the newest recovery point was taken, by the source's clock; absent before the first.",
    SCHEDULE,
  );
  const behind = gauge(
    'schedule_behind_seconds',
    'Seconds for which the source has had a host snapshot that is not published here, at least: only what tasks were told counts, so 0 while the source has not been asked.',
    SCHEDULE,
  );
  const rpo = gauge('schedule_rpo_seconds', 'How far behind it may be; absent without --rpo.', SCHEDULE);
  const paused = gauge('schedule_paused', 'Whether it is paused.', SCHEDULE);
  const nextRun = gauge(
    'schedule_next_run_timestamp_seconds',
    'When the next run is due; absent while none is planned.',
    SCHEDULE,
  );
  const outcome = gauge(
    'schedule_last_task_outcome',
    '1 for the outcome of the newest task that has ended, 0 for the others.',
    [...SCHEDULE, 'outcome'],
  );
  const ended = gauge(
    'schedule_last_task_end_timestamp_seconds',
    'When the newest task that has ended ended.',
    SCHEDULE,
  );
  const receiving = gauge(
    'schedule_disks_receiving',
    'Disks of the running task whose receiver is open and has not everything yet.',
    SCHEDULE,
  );
  const tasks = counter('tasks_total', 'Tasks that were ended by this worker, by outcome.', [
    ...SCHEDULE,
    'outcome',
  ]);
  const bytes = counter(
    'received_bytes_total',
    'Bytes of disks that the receiver of this worker wrote to replica files.',
    [...SCHEDULE, 'disk'],
  );
  const all = [age, behind, rpo, paused, nextRun, outcome, ended, receiving, tasks, bytes];

  function fillGauges(reading: ScheduleReading, labels: ScheduleLabels, nowMs: number): void {
    const { newestPointAtMs, behindSinceMs, rpoMs, nextRunAtMs, lastTask } = reading;
    const sinceMs = (atMs: number | null) => (atMs === null ? null : Math.max(0, nowMs - atMs));
    setSeconds(age, labels, sinceMs(newestPointAtMs));
    setSeconds(behind, labels, sinceMs(behindSinceMs) ?? 0);
    setSeconds(rpo, labels, rpoMs);
    setSeconds(nextRun, labels, nextRunAtMs);
    setSeconds(ended, labels, lastTask?.finishedAtMs ?? null);
    paused.set(labels, reading.paused ? 1 : 0);
    receiving.set(labels, reading.receivingDisks);
    if (lastTask === null) return;
    for (const name of OUTCOMES) outcome.set({ ...labels, outcome: name }, name === lastTask.outcome ? 1 : 0);
  }

  return (
    { schedules, nowMs }: ScrapeFindings,
    taskCounts: ReadonlyMap<string, OutcomeCounts>,
    received: ReadonlyMap<string, ReceivedBytes>,
  ): void => {
    for (const metric of all) metric.reset();
    const disksOf = Map.groupBy(received.values(), ({ scheduleUuid }) => scheduleUuid);
    for (const reading of schedules ?? []) {
      const labels = { schedule: reading.name, host: reading.host };
      fillGauges(reading, labels, nowMs);
      const counts = taskCounts.get(reading.uuid);
      for (const name of OUTCOMES) tasks.inc({ ...labels, outcome: name }, counts?.get(name) ?? 0);
      for (const disk of disksOf.get(reading.uuid) ?? [])
        bytes.inc({ ...labels, disk: disk.disk }, disk.bytes);
    }
  };
}

function setSeconds<L extends string>(gauge: Gauge<L>, labels: LabelValues<L>, ms: number | null): void {
  if (ms !== null) gauge.set(labels, ms / 1000);
}

/** Those of the source role. */
function sourceMetrics(gauge: MakeGauge) {
  const locks = gauge('snapshot_locks', 'Locks on host snapshots, by the replica site they are held for.', [
    'replica_site',
  ]);
  const oldest = gauge(
    'snapshot_lock_oldest_age_seconds',
    'Age of the oldest lock on a host snapshot, by the replica site it is held for.',
    ['replica_site'],
  );
  const senders = gauge('senders_running', 'Disks that this worker sends now; 0 without the source role.');

  return ({ locks: found, runningSenders }: ScrapeFindings): void => {
    for (const metric of [locks, oldest]) metric.reset();
    for (const { replicaSite, locks: count, oldestAgeMs } of found ?? []) {
      const labels = { replica_site: replicaSite ?? 'unknown' };
      locks.set(labels, count);
      oldest.set(labels, oldestAgeMs / 1000);
    }
    senders.set(runningSenders);
  };
}

/** Sets a value as the newest, and forgets the oldest beyond so many. */
function keep<V>(map: Map<string, V>, key: string, value: V, most: number): void {
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= most) return;
    map.delete(oldest);
  }
}
