/** The journal of a host that runs: its base is published, and then one task appends what was written since. */
import { expect } from 'vitest';
import type { Fault } from '../../../src/lib/fault-injection.ts';
import { CDP_SIZES, load } from '../cdp-look.ts';
import { invariantsOf } from '../e2e-look.ts';
import { JournaledHost } from '../journaled-host.ts';
import { FaultHost } from './fault-host.ts';
import type { FaultSites } from './fault-sites.ts';

const CHECKPOINTS = 4;

let count = 0;

export async function append(on: FaultSites, faults: readonly Fault[]): Promise<void> {
  count += 1;
  const schedule = new FaultHost(on, `append${count}`);
  on.arm([]);
  const host = await JournaledHost.create(on.sites, schedule.name, CDP_SIZES);
  try {
    await host.write('vda', 0, 64 * 1024, 7);
    await host.beginEpoch();
    await schedule.createSchedule();
    await schedule.untilPublished(host.baseUuid);
    await schedule.untilIdle();
    const { sequence } = await load(host, CHECKPOINTS);
    on.arm(faults);
    await schedule.runNow();
    const { methods } = await schedule.untilPublished(host.epochUuid);
    expect(methods).toEqual(['append', 'append']);
    await on.untilFired();
    await schedule.untilIdle();
    on.arm([]);
    const [cursor] = await on.rows<{ checkpoint: string }>(
      'b',
      `select cursor->'position'->>'checkpoint' as checkpoint from remote_backup_schedules where name = $1`,
      [schedule.name],
    );
    expect(Number(cursor?.checkpoint)).toBe(sequence);
    expect(await invariantsOf(on.sites)).toEqual([]);
    await schedule.remove();
  } finally {
    await host.close();
  }
}
