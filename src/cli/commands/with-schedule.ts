/** What all commands about one schedule have in common. */
import type { Orchestrator, ScheduleRef } from '../../orchestration/orchestrator.ts';
import type { CommandContext } from '../command-context.ts';
import { openOrchestrator, using } from '../services.ts';

export interface SiteChoice {
  readonly site?: string;
}

export const NAME_HELP = 'the name of the schedule';

/** Opens the orchestrator for the schedule of this name at the chosen site, else at the configuration's own. */
export async function withSchedule<T>(
  context: CommandContext,
  name: string,
  { site }: SiteChoice,
  use: (orchestrator: Orchestrator, ref: ScheduleRef) => Promise<T>,
): Promise<T> {
  const config = await context.config();
  return using(openOrchestrator(config), orchestrator =>
    use(orchestrator, { replicaSite: site ?? config.site, name }),
  );
}
