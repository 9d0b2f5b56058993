/** Tells schedules that their source has something newer. */
import { WorkflowNotFoundError } from '@temporalio/common';
import { scheduleWorkflowId } from '../contract/names.ts';
import { SIGNALS, type SnapshotAvailable } from '../contract/schedule.ts';
import { effect } from '../lib/fault-points.ts';
import { type TemporalSettings, temporalTarget } from './temporal-connection.ts';
import { createTemporalLink } from './temporal-link.ts';

export interface ScheduleNotifier {
  /**
   * @returns `gone` when no workflow of that name runs
   * @throws {TemporalUnreachableError} {@link TemporalRefusedError}: not told, to be tried again
   */
  tell(
    schedule: { readonly replicaSite: string; readonly scheduleName: string },
    news: SnapshotAvailable,
  ): Promise<'told' | 'gone'>;
  close(): Promise<void>;
}

export function createScheduleNotifier(settings: TemporalSettings): ScheduleNotifier {
  const link = createTemporalLink(temporalTarget(settings));
  return {
    async tell({ replicaSite, scheduleName }, news) {
      try {
        await link.call(({ client }) =>
          effect('temporal.signal.snapshotAvailable', () =>
            client.workflow
              .getHandle(scheduleWorkflowId(replicaSite, scheduleName))
              .signal(SIGNALS.snapshotAvailable, news),
          ),
        );
        return 'told';
      } catch (error) {
        if (error instanceof WorkflowNotFoundError) return 'gone';
        throw error;
      }
    },
    close: () => link.close(),
  };
}
