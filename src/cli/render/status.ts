import { formatDuration } from '../../lib/durations.ts';
import type { ScheduleStatusJson, SiteStatusJson } from '../status-json.ts';
import { nextRunWithin } from './schedule.ts';
import { printable, renderTable } from './table.ts';
import { renderSpan } from './times.ts';
import { outcomeWords } from './words.ts';
import { wrapped } from './wrapped.ts';

/**
 * Every host of a replica site on one screen; what is wrong with the site stands first.
 * @param fit the columns of the terminal, null where there is none
 */
export function renderStatus(
  { site, problems, schedules }: SiteStatusJson,
  nowMs: number,
  fit: number | null = null,
): string {
  const table = renderTable(
    [
      { title: 'host' },
      { title: 'schedule' },
      { title: 'state' },
      { title: 'age', align: 'right' },
      { title: 'behind', align: 'right' },
      { title: 'RPO' },
      { title: 'next run' },
      { title: 'last outcome' },
      { title: 'problem' },
    ],
    schedules.map(schedule => [
      schedule.host ?? '-',
      schedule.name,
      schedule.state,
      renderSpan(schedule.ageMs),
      renderSpan(schedule.behindMs),
      rpoText(schedule),
      schedule.state === 'running' ? 'runs' : nextRunWithin(schedule, nowMs, fit),
      schedule.lastOutcome === null ? '-' : outcomeWords(schedule.lastOutcome),
      [...schedule.problems, ...schedule.warnings].join('; '),
    ]),
    `Site '${site}' has no schedules.`,
    fit,
  );
  const wrong = schedules.filter(schedule => schedule.problems.length > 0).length;
  const count = `${schedules.length} ${schedules.length === 1 ? 'schedule' : 'schedules'}`;
  return [
    ...problems
      .map(problem => printable(`! ${problem}`))
      .flatMap(line => (fit === null ? [line] : wrapped(line, fit))),
    table,
    ...(schedules.length === 0 ? [] : [`${count}, ${wrong === 0 ? 'none' : wrong} with a problem.`]),
  ].join('\n');
}

function rpoText({ rpoMs, rpoMet }: ScheduleStatusJson): string {
  if (rpoMs === null) return '-';
  const verdict = rpoMet === null ? 'not known' : rpoMet ? 'met' : 'MISSED';
  return `${formatDuration(rpoMs)} ${verdict}`;
}
