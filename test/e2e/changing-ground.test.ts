import { copyFile, rename } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { moreBytes } from '../support/e2e-faults.ts';
import { createHostImages, createSchedule, untilPublished } from '../support/e2e-host.ts';
import { invariantsOf, openTransfers, rowsOf } from '../support/e2e-look.ts';
import { qemuIdentical, qemuImg, qemuIo } from '../support/qemu.ts';
import { startTwoSites, type TwoSites } from '../support/two-sites.ts';

const MIB = 1024 * 1024;
let sites: TwoSites;

beforeAll(async () => {
  sites = await startTwoSites();
}, 300_000);

afterAll(async () => {
  await sites?.close();
});

/** What is done to a disk of two layers while it is sent. */
const CHANGES: readonly { host: string; change: (top: string, base: string) => Promise<unknown> }[] = [
  { host: 'committed', change: top => qemuImg('commit', '-q', top) },
  {
    host: 'replaced',
    async change(_top, base) {
      await copyFile(base, `${base}.other`);
      await qemuIo(`${base}.other`, ['write -P 9 20M 2M'], ['-f', 'qcow2']);
      await rename(`${base}.other`, base);
    },
  },
  { host: 'written', change: (_top, base) => qemuIo(base, ['write -P 8 0 1M']) },
];

test.each(CHANGES)(
  'a layer that is $host while it is sent: planned anew, and one generation is published',
  async ({ host: name, change }) => {
    const host = await createHostImages(sites, name, { vda: '64M' });
    await host.next(() => ['write -P 1 0 24M']);
    const base = host.tops.vda ?? '';
    const snapshot = await host.next(() => ['write -P 2 8M 2M']);
    const top = host.tops.vda ?? '';
    const moving = moreBytes(sites, 6 * MIB);
    await createSchedule(sites, name, name, '--bandwidth', '4MiB/s');
    await moving;
    expect(await openTransfers(sites), 'the change must fall inside the transfer').toHaveLength(1);
    await change(top, base);

    await untilPublished(sites, name, snapshot);
    const [task] = await rowsOf<{ plan: number; reasons: string[]; path: string }>(
      sites,
      'b',
      `select t.plan::int as plan, t.plan_reasons as reasons, st.path
     from remote_backup_tasks t join remote_backup_schedules s on s.uuid = t.schedule_uuid
     join disk_snapshots ds on ds.host_snapshot_id = t.target_snapshot_id
     join snapshot_storages st on st.id = ds.storage_id
     where s.name = '${name}' and t.outcome = 'published'`,
    );
    expect(task?.plan).toBeGreaterThan(1);
    expect(task?.reasons[0]).toContain('changed');
    expect(await qemuIdentical(top, task?.path ?? '')).toBe(true);
    expect(await invariantsOf(sites)).toEqual([]);
  },
  240_000,
);
