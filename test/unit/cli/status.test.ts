import { describe, expect, it } from 'vitest';
import type { RecordedSchedule } from '../../../src/cli/ports.ts';
import { renderStatus } from '../../../src/cli/render/status.ts';
import { type AskedSchedule, type SiteFindings, siteStatusJson } from '../../../src/cli/status-json.ts';
import type { ScheduleStatus } from '../../../src/contract/schedule.ts';
import { initialScheduleState } from '../../../src/domain/schedule-state.ts';
import { statusOf } from '../../../src/domain/schedule-status.ts';
import type { PendingStep } from '../../../src/orchestration/orchestrator.ts';

const NOW_MS = Date.parse('2026-11-24T12:00:00Z');
const HOUR_MS = 3_600_000;

const recorded = (name: string, changes: Partial<RecordedSchedule> = {}): RecordedSchedule => ({
  name,
  uuid: `uuid-${name}`,
  host: name,
  sourceSite: 'a',
  state: 'live',
  paused: false,
  rpoMs: HOUR_MS,
  nextRunAt: '2026-11-24T13:00:00.000Z',
  newestPointAt: '2026-11-24T10:00:00.000Z',
  newestPointAgeMs: 2 * HOUR_MS,
  damage: { points: 0, newest: false },
  lastTask: null,
  ...changes,
});

function asked(
  name: string,
  changes: Partial<ScheduleStatus> = {},
  pending: readonly PendingStep[] = [],
): [string, AskedSchedule] {
  const settings = {
    type: 'interval' as const,
    everyMs: HOUR_MS,
    cron: null,
    timeZone: null,
    rpoMs: HOUR_MS,
    bandwidthBytesPerSecond: null,
  };
  const spec = {
    contractVersion: 1,
    uuid: `uuid-${name}`,
    name,
    replicaSite: 'b',
    sourceSite: 'a',
    host: name,
  };
  const state = {
    ...initialScheduleState(settings, { paused: false }),
    newestPointAtMs: NOW_MS - 2 * HOUR_MS,
    nextRunAtMs: NOW_MS + HOUR_MS,
  };
  const status = { ...statusOf(spec, state, { running: null }), ...changes };
  const view = { reachable: true as const, ref: { replicaSite: 'b', name }, status };
  return [name, { view, progress: { task: null, step: null, pending } }];
}

const findings = (changes: Partial<SiteFindings>): SiteFindings => ({
  site: 'b',
  recorded: [],
  catalogFault: null,
  asked: new Map(),
  temporalFault: null,
  releases: [],
  ...changes,
});

const pendingStep: PendingStep = {
  level: 'disk',
  disk: 'vda',
  activity: 'sendDisk',
  attempt: 4,
  lastFailure: { code: 'DiskFull', message: 'the disk at site b is full' },
  nextAttemptAtMs: null,
  waits: null,
  unserved: false,
  transfer: null,
};

describe('the status of a site', () => {
  it('is well with every schedule within its RPO, the paused ones too', () => {
    const status = siteStatusJson(
      findings({
        recorded: [recorded('web1'), recorded('db1')],
        asked: new Map([asked('web1'), asked('db1', { state: 'paused', paused: true, nextRunAtMs: null })]),
      }),
      NOW_MS,
    );
    expect(status).toMatchObject({ ok: true, problems: [], schedules: [{ name: 'db1' }, { name: 'web1' }] });
    expect(renderStatus(status, NOW_MS)).toBe(
      [
        'HOST  SCHEDULE  STATE    AGE  BEHIND  RPO     NEXT RUN                      LAST OUTCOME  PROBLEM',
        'db1   db1       paused    2h      0s  1h met  after a resume                -',
        'web1  web1      waiting   2h      0s  1h met  2026-11-24 13:00:00Z (in 1h)  -',
        '2 schedules, none with a problem.',
      ].join('\n'),
    );
  });

  it('keeps within a terminal: a long problem stands below its row, or broken beside it', () => {
    const waits = {
      ...pendingStep,
      lastFailure: { code: 'DiskFull', message: `no room ${'for it '.repeat(20)}` },
    };
    const status = siteStatusJson(
      findings({
        recorded: [recorded('web1'), recorded('db1')],
        asked: new Map([asked('web1', { state: 'running' }, [waits]), asked('db1')]),
      }),
      NOW_MS,
    );
    const narrow = renderStatus(status, NOW_MS, 80).split('\n');
    expect(Math.max(...narrow.map(line => line.length))).toBeLessThanOrEqual(80);
    expect(narrow.slice(0, 4)).toEqual([
      'HOST  SCHEDULE  STATE    AGE  BEHIND  RPO     NEXT RUN  LAST OUTCOME',
      'db1   db1       waiting   2h      0s  1h met  in 1h     -',
      'web1  web1      running   2h      0s  1h met  runs      -',
      '    retries: sending vda: no room for it for it for it for it for it for it for',
    ]);
    const wide = renderStatus(status, NOW_MS, 160).split('\n');
    expect(Math.max(...wide.map(line => line.length))).toBeLessThanOrEqual(160);
    expect(wide[2]).toMatch(/^web1 {2}web1 .* retries: sending vda: no room/);
    expect(wide[3]).toMatch(/^ {60,}(for )?it for it/);
  });

  it.each<[string, Partial<ScheduleStatus>, readonly PendingStep[], string]>([
    [
      'an RPO is missed while paused',
      { paused: true, state: 'paused', behindSinceMs: NOW_MS - 2 * HOUR_MS },
      [],
      'RPO missed: behind 2h, not 1h',
    ],
    [
      'a step is tried again',
      {},
      [pendingStep],
      'retries: sending vda: the disk at site b is full (attempt 4)',
    ],
    [
      'nobody serves a step',
      {},
      [{ ...pendingStep, attempt: 1, lastFailure: null, waits: 'no worker of site a', unserved: true }],
      'retries: sending vda: no worker of site a',
    ],
    [
      'it cannot be deleted',
      { state: 'deleting', note: 'waits until site a has released what it holds' },
      [],
      'is being deleted: waits until site a has released what it holds',
    ],
  ])('is not well when %s', (_when, changes, pending, problem) => {
    const status = siteStatusJson(
      findings({ recorded: [recorded('web1')], asked: new Map([asked('web1', changes, pending)]) }),
      NOW_MS,
    );
    expect(status).toMatchObject({ ok: false, problems: [], schedules: [{ problems: [problem] }] });
    expect(renderStatus(status, NOW_MS)).toContain(problem);
  });

  it('damage of the newest point is wrong, that of older ones is only told', () => {
    const look = (damage: RecordedSchedule['damage']) =>
      siteStatusJson(
        findings({ recorded: [recorded('web1', { damage })], asked: new Map([asked('web1')]) }),
        NOW_MS,
      );
    const newest = look({ points: 2, newest: true });
    expect(newest).toMatchObject({
      ok: false,
      schedules: [{ problems: [expect.stringContaining('2 recovery points are damaged')], warnings: [] }],
    });
    const older = look({ points: 1, newest: false });
    expect(older).toMatchObject({
      ok: true,
      schedules: [{ problems: [], warnings: [expect.stringContaining('not the newest')] }],
    });
    expect(renderStatus(older, NOW_MS)).toContain('a recovery point is damaged or in doubt');
  });

  it('is told from the catalog when Temporal does not answer, and says so', () => {
    const temporalFault = 'Temporal does not answer at t:7233: refused';
    const status = siteStatusJson(
      findings({ recorded: [recorded('web1')], asked: null, temporalFault }),
      NOW_MS,
    );
    expect(status).toEqual({
      site: 'b',
      checkedAt: '2026-11-24T12:00:00.000Z',
      ok: false,
      problems: [`${temporalFault}; what follows is from the catalog`],
      schedules: [
        {
          host: 'web1',
          name: 'web1',
          uuid: 'uuid-web1',
          sourceSite: 'a',
          state: 'unreachable',
          paused: false,
          ageMs: 2 * HOUR_MS,
          behindMs: null,
          rpoMs: HOUR_MS,
          rpoMet: null,
          nextRunAt: '2026-11-24T13:00:00.000Z',
          lastOutcome: null,
          lastFinishedAt: null,
          problems: [],
          warnings: [],
        },
      ],
    });
    expect(renderStatus(status, NOW_MS)).toMatch(/^! Temporal does not answer .*\n.*\nweb1 .* 1h not known /);
  });

  it('names a workflow that is gone or silent, a catalog out of reach, and locks that were left', () => {
    const silent: AskedSchedule = {
      view: { reachable: false, ref: { replicaSite: 'b', name: 'db1' }, reason: 'no worker', spec: null },
      progress: null,
    };
    const status = siteStatusJson(
      findings({
        recorded: [recorded('web1'), recorded('db1')],
        asked: new Map([['db1', silent]]),
        releases: [{ workflowId: 'release/u', startedAtMs: NOW_MS, summary: 'old: what site a still holds' }],
      }),
      NOW_MS,
    );
    expect(status).toMatchObject({
      ok: false,
      problems: ['old: what site a still holds: not released since 2026-11-24T12:00:00.000Z (release/u)'],
      schedules: [
        { name: 'db1', state: 'unreachable', host: 'db1', problems: ['no worker'] },
        { name: 'web1', state: 'unreachable', problems: [expect.stringContaining('its workflow is gone')] },
      ],
    });
    const without = siteStatusJson(
      findings({ recorded: null, catalogFault: 'the catalog does not answer', asked: new Map([asked('x')]) }),
      NOW_MS,
    );
    expect(without).toMatchObject({ ok: false, schedules: [{ name: 'x', problems: [] }] });
  });

  it('of a site without schedules is well', () => {
    const status = siteStatusJson(findings({}), NOW_MS);
    expect(status.ok).toBe(true);
    expect(renderStatus(status, NOW_MS)).toBe("Site 'b' has no schedules.");
  });
});
