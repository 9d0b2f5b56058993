import { describe, expect, it } from 'vitest';
import type { ScheduleReading } from '../../../src/catalog/metrics-readings.ts';
import { createMetricsRegistry, type ScrapeFindings } from '../../../src/sites/metrics-registry.ts';

const SCHEDULE: ScheduleReading = {
  uuid: 's1',
  name: 'nightly',
  host: 'web1',
  paused: false,
  rpoMs: null,
  nextRunAtMs: null,
  newestPointAtMs: null,
  behindSinceMs: 9_000,
  lastTask: null,
  receivingDisks: 0,
};
const NOTHING: ScrapeFindings = {
  nowMs: 10_000,
  catalogUp: true,
  temporalUp: true,
  schedules: null,
  locks: null,
  snapshots: null,
  damage: null,
  runningSenders: 0,
};
const NIGHTLY = { ...NOTHING, schedules: [SCHEDULE] };

const lines = (text: string, name: string) => text.split('\n').filter(line => line.startsWith(name));

describe('the metrics of a worker', () => {
  it('count a task once, however often its end is told', async () => {
    const registry = createMetricsRegistry();
    for (const taskUuid of ['t1', 't1', 't2']) {
      registry.countTask({ scheduleUuid: 's1', taskUuid, outcome: 'published' });
    }
    expect(await registry.render(NIGHTLY)).toContain(
      'offsite_tasks_total{schedule="nightly",host="web1",outcome="published"} 2',
    );
  });

  it('tell of the data port where there is one, and of damaged files as often as they are read', async () => {
    const registry = createMetricsRegistry();
    expect(lines(await registry.render(NOTHING), 'offsite_receiver_')).toEqual([]);
    const receiver = { admitted: 2, pending: 1, displaced: 5, throttled: 7 };
    const damage = [{ host: 'web1', kind: 'content' as const, files: 3 }];
    for (let scrape = 0; scrape < 2; scrape += 1) {
      const text = await registry.render({ ...NOTHING, receiver, damage });
      expect(lines(text, 'offsite_receiver_')).toEqual([
        'offsite_receiver_connections{state="admitted"} 2',
        'offsite_receiver_connections{state="pending"} 1',
        'offsite_receiver_turned_away_total{reason="displaced"} 5',
        'offsite_receiver_turned_away_total{reason="throttled"} 7',
      ]);
      expect(lines(text, 'offsite_replica_files_damaged{')).toEqual([
        'offsite_replica_files_damaged{host="web1",kind="content"} 3',
      ]);
    }
    expect(lines(await registry.render(NOTHING), 'offsite_replica_files_damaged{')).toEqual([]);
  });

  it('bound the codes that a peer can make up', async () => {
    const registry = createMetricsRegistry();
    for (let index = 0; index < 200; index += 1) {
      registry.countAttempt({ activity: 'sendDisk', attempt: 1, failure: `Made${index}` });
    }
    const failures = lines(await registry.render(NOTHING), 'offsite_activity_failures_total{');
    expect(failures).toHaveLength(65);
    expect(failures).toContain('offsite_activity_failures_total{activity="sendDisk",code="Other"} 136');
  });

  it('keep counting through an outage, and say nothing of schedules meanwhile', async () => {
    const registry = createMetricsRegistry();
    registry.countReceived({ scheduleUuid: 's1', disk: 'vda' }, 5);
    expect(lines(await registry.render(NIGHTLY), 'offsite_received_bytes_total{')).toHaveLength(1);
    registry.countReceived({ scheduleUuid: 's1', disk: 'vda' }, 7);
    const cut = await registry.render({ ...NOTHING, catalogUp: false });
    expect(cut).toContain('offsite_catalog_up 0');
    expect(lines(cut, 'offsite_received_bytes_total{')).toEqual([]);
    expect(lines(await registry.render(NIGHTLY), 'offsite_received_bytes_total{')).toEqual([
      'offsite_received_bytes_total{schedule="nightly",host="web1",disk="vda"} 12',
    ]);
  });

  it('leave out what is not known', async () => {
    const text = await createMetricsRegistry().render(NIGHTLY);
    expect(lines(text, 'offsite_schedule_newest_point_age_seconds{')).toEqual([]);
    expect(lines(text, 'offsite_schedule_last_task_outcome{')).toEqual([]);
    expect(text).toContain('offsite_schedule_behind_seconds{schedule="nightly",host="web1"} 1');
  });
});
