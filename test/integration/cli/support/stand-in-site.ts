/** A replica site's worker with the stand-in workflows; its transfers wait until the test lets them go on. */
import { fileURLToPath } from 'node:url';
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { replicaQueue } from '../../../../src/contract/names.ts';
import type { ScheduleSpec } from '../../../../src/contract/schedule.ts';
import type { TransferProgress } from '../../../../src/contract/transfer.ts';

Runtime.install({ logger: new DefaultLogger('ERROR') });

export interface StandInSite {
  /** Lets every transfer of a host end. */
  release(host: string): void;
  stop(): Promise<void>;
}

/** Polls `<site>.replica`. The host `taken` cannot be registered, `busy` fails for a while before it goes on. */
export async function startStandInSite(address: string, site: string): Promise<StandInSite> {
  const released = new Set<string>();
  const activities = {
    async registerSchedule({ host }: ScheduleSpec): Promise<void> {
      if (host === 'taken') {
        const message = "schedule 'other' replicates host 'taken' from site 'a' already";
        throw ApplicationFailure.create({ type: 'ScheduleConflict', message, nonRetryable: true });
      }
    },
    async sendDisk(host: string): Promise<void> {
      const { info, heartbeat, sleep } = Context.current();
      if (host === 'busy' && info.attempt <= 10) {
        throw ApplicationFailure.create({ type: 'DiskFull', message: 'the disk at site b is full' });
      }
      const progress: TransferProgress = {
        diskTaskUuid: 'd',
        durableBytes: 1024,
        totalBytes: 4096,
        note: null,
      };
      while (!released.has(host)) {
        heartbeat(progress);
        await sleep(50);
      }
    },
  };
  const connection = await NativeConnection.connect({ address });
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('./stand-in-workflows.ts', import.meta.url)),
    logger: new DefaultLogger('ERROR'),
  });
  const worker = await Worker.create({
    connection,
    taskQueue: replicaQueue(site),
    workflowBundle,
    activities,
    maxHeartbeatThrottleInterval: 100,
    shutdownGraceTime: 0,
    shutdownForceTime: 2_000,
  });
  const running = worker.run();
  return {
    release: host => void released.add(host),
    async stop() {
      worker.shutdown();
      await running;
      await connection.close();
    },
  };
}
