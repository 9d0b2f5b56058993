import type { Command } from 'commander';
import type { SiteConfig } from '../../config/site-config.ts';
import { OffsiteError } from '../../domain/errors.ts';
import type { LeftRelease, Orchestrator, ScheduleView } from '../../orchestration/orchestrator.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { RecordedSchedule } from '../ports.ts';
import { renderStatus } from '../render/status.ts';
import { loadSiteServices, openOrchestrator, using } from '../services.ts';
import { type AskedSchedule, type SiteFindings, siteStatusJson } from '../status-json.ts';

/** `offsite status`: every host of the replica site. @param exit takes the exit code */
export function addStatusCommand(program: Command, io: CliIo, exit: (code: number) => void): void {
  program
    .command('status')
    .description('show every host of this replica site on one screen, and whether all is well')
    .option('--quiet', 'print nothing: the exit code says it')
    .addHelpText(
      'after',
      `
For monitoring. Exit codes: 0 all is well, 1 something is wrong, 2 bad usage. Wrong is: an RPO that is missed, also
while paused; a step that is tried again for a cause; a worker or Temporal or the catalog out of reach; a schedule
that cannot be deleted because its source does not answer; locks left at a source by a deletion by force.
While Temporal or the worker is down, what the catalog has is shown, and that it is from there.

Examples:
  $ offsite status
  $ offsite status --quiet || mail -s 'offsite' root < /dev/null
  $ offsite status --json | jq '.schedules[] | select(.problems != [])'`,
    )
    .action(async ({ quiet }: { quiet?: boolean }, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const status = siteStatusJson(await findOut(config), io.nowMs());
      if (quiet !== true) context.print(status, (found, fit) => renderStatus(found, io.nowMs(), fit));
      exit(status.ok ? 0 : 1);
    });
}

const TEMPORAL_FAULTS = ['TemporalUnreachable', 'TemporalRefused', 'TemporalNamespaceMissing'];

async function findOut(config: SiteConfig): Promise<SiteFindings> {
  const catalog = await orFault(['DatabaseUnreachable'], async () => {
    const { openReplicaInventory } = await loadSiteServices();
    return using(openReplicaInventory(config), inventory => inventory.listSchedules());
  });
  const temporal = await orFault(TEMPORAL_FAULTS, () =>
    using(openOrchestrator(config), orchestrator => askAll(orchestrator, config.site, catalog.found ?? [])),
  );
  return {
    site: config.site,
    recorded: catalog.found,
    catalogFault: catalog.fault,
    asked: temporal.found?.asked ?? null,
    releases: temporal.found?.releases ?? [],
    temporalFault: temporal.fault,
  };
}

/** What was found, or why it was not; other errors than those named are thrown on. */
async function orFault<T>(
  codes: readonly string[],
  find: () => Promise<T>,
): Promise<{ readonly found: T; readonly fault: null } | { readonly found: null; readonly fault: string }> {
  try {
    return { found: await find(), fault: null };
  } catch (error) {
    if (!(error instanceof OffsiteError) || !codes.includes(error.code)) throw error;
    return { found: null, fault: error.message };
  }
}

async function askAll(
  orchestrator: Orchestrator,
  site: string,
  recorded: readonly RecordedSchedule[],
): Promise<{ asked: Map<string, AskedSchedule>; releases: readonly LeftRelease[] }> {
  const views = [...(await orchestrator.list(site))];
  // A list may lag behind; a schedule's own description does not.
  for (const { name } of recorded.filter(row => !views.some(({ ref }) => ref.name === row.name))) {
    const view = await orNull(() => orchestrator.status({ replicaSite: site, name }));
    if (view !== null) views.push(view);
  }
  const asked = await Promise.all(
    views.map(async view => {
      const isRecorded = recorded.some(({ name }) => name === view.ref.name);
      const progress =
        isBusy(view) || !isRecorded ? await orNull(() => orchestrator.progress(view.ref)) : null;
      return [view.ref.name, { view, progress }] as const;
    }),
  );
  return { asked: new Map(asked), releases: await orchestrator.releases(site) };
}

/** Only a schedule that does something can be held up by something. */
const isBusy = (view: ScheduleView): boolean =>
  view.reachable && (view.status.runningTask !== null || view.status.note !== null);

/** Null when the schedule has ended meanwhile. */
async function orNull<T>(look: () => Promise<T>): Promise<T | null> {
  try {
    return await look();
  } catch (error) {
    if (error instanceof OffsiteError && error.code === 'ScheduleUnknown') return null;
    throw error;
  }
}
