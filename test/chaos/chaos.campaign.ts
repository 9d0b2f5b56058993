/** `npm run test:chaos -- --seed N --minutes M`: docs/reliability.md has a recorded run. */
import { cpSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { invariantsOf } from '../support/e2e-look.ts';
import { type FaultSites, startFaultSites } from '../support/faults/fault-sites.ts';
import { qemuIdentical } from '../support/qemu.ts';
import { createCampaign } from './campaign.ts';

const seed = Number(process.env.OFFSITE_CHAOS_SEED);
const minutes = Number(process.env.OFFSITE_CHAOS_MINUTES);
const SETTLE_MS = 1_800_000;

let on: FaultSites;

afterAll(async () => {
  await on?.close();
});

it(
  `seed ${seed}, ${minutes} minutes: nothing is lost, and every published point is its snapshot`,
  async () => {
    on = await startFaultSites();
    await on.startWorkers();
    const logs = join(on.sites.dataDir, 'logs');
    const campaign = createCampaign(on, seed, join(logs, 'chaos.log'));
    try {
      await campaign.run(minutes);
      const compared = await comparePoints();
      const violations = await invariantsOf(on.sites);
      report({ seed, minutes, ...campaign.counts, ...(await published()), ...compared, violations });
      expect(violations).toEqual([]);
      expect(compared.differing).toEqual([]);
      expect(compared.pointsCompared).toBeGreaterThan(0);
    } catch (error) {
      const kept = mkdtempSync(join(tmpdir(), `offsite-chaos-${seed}-`));
      cpSync(logs, kept, { recursive: true });
      report({ failed: true, seed, minutes, ...campaign.counts, logs: kept });
      throw error;
    }
  },
  minutes * 60_000 + SETTLE_MS,
);

function report(result: object): void {
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
}

/** What was published in the whole campaign, that which was purged since included. */
async function published() {
  const rows = await on.rows<{ outcome: string; tasks: number }>(
    'b',
    'select outcome, count(*)::int as tasks from remote_backup_tasks group by outcome order by outcome',
  );
  const methods = await on.rows<{ method: string; disks: number }>(
    'b',
    `select d.method, count(*)::int as disks from remote_backup_disk_tasks d
     join remote_backup_tasks t on t.id = d.task_id and t.plan = d.plan
     where t.outcome = 'published' group by d.method`,
  );
  return {
    tasks: Object.fromEntries(rows.map(({ outcome, tasks }) => [outcome, tasks])),
    publishedDisks: Object.fromEntries(methods.map(({ method, disks }) => [method, disks])),
  };
}

interface DiskAt {
  readonly uuid: string;
  readonly disk: string;
  readonly path: string;
  readonly size: string;
}

/** Every point that B has, disk by disk, with what A registered under the same name. */
async function comparePoints() {
  const disksOf = (site: 'a' | 'b') =>
    on.rows<DiskAt>(
      site,
      `select hs.uuid, d.ident as disk, st.path, ds.virtual_size_bytes as size
       from host_snapshots hs
       join disk_snapshots ds on ds.host_snapshot_id = hs.id
       join disks d on d.id = ds.disk_id
       join snapshot_storages st on st.id = ds.storage_id
       where hs.state = 'complete'`,
    );
  const [sources, replicas] = await Promise.all([disksOf('a'), disksOf('b')]);
  const differing: string[] = [];
  let comparedBytes = 0;
  for (const replica of replicas) {
    const source = sources.find(({ uuid, disk }) => uuid === replica.uuid && disk === replica.disk);
    const isSame = source !== undefined && (await qemuIdentical(source.path, replica.path));
    if (!isSame) differing.push(`${replica.uuid} ${replica.disk}: ${replica.path}`);
    comparedBytes += Number(replica.size);
  }
  const pointsCompared = new Set(replicas.map(({ uuid }) => uuid)).size;
  return { pointsCompared, disksCompared: replicas.length, comparedBytes, differing };
}
