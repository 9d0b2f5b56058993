import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { LayerFile } from '../../../src/catalog/register-snapshot.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import { createSourceInventory } from '../../../src/catalog/source-inventory.ts';
import type { LayerProof } from '../../../src/contract/sync.ts';
import { useTestDatabase } from '../../support/database.ts';
import { answerOf, fenceOf, fileAt, fresh, queryOf, register, registerChain } from './fixtures.ts';

const database = useTestDatabase();
const openInventory = () => createSourceInventory(database().db);

async function parentsOf(host: string): Promise<Record<string, string | null>> {
  const rows = await database()
    .db('disk_snapshots as ds')
    .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
    .join('hosts as h', 'h.id', 'hs.host_id')
    .leftJoin('disk_snapshots as p', 'p.id', 'ds.parent_id')
    .leftJoin('host_snapshots as ph', 'ph.id', 'p.host_snapshot_id')
    .where('h.ident', host)
    .select('hs.uuid', 'ph.uuid as parent');
  return Object.fromEntries(rows.map(row => [row.uuid, row.parent]));
}

async function lock(host: string, snapshot: string): Promise<string> {
  const query = queryOf(host, fenceOf(randomUUID(), 1));
  const catalog = createSourceCatalog(database().db, { site: 'a', instance: 1 });
  await catalog.answerSync(query, async () => answerOf(snapshot));
  return query.lockType;
}

describe('registering a host snapshot', () => {
  it('again with the same files gives the same one, also when two do it at once', async () => {
    const { db } = database();
    const host = fresh('host');
    const tops = { vda: fileAt(`/images/${host}/vda`), vdb: fileAt(`/images/${host}/vdb`) };
    const results = await Promise.all([
      register(db, host, tops),
      register(db, host, tops),
      register(db, host, tops),
    ]);
    expect(results.map(({ created }) => created).sort()).toEqual([false, false, true]);
    expect(new Set(results.map(({ snapshot }) => snapshot)).size).toBe(1);
    expect(await openInventory().listSnapshots({ host })).toMatchObject([
      { host, sequence: 1, disks: [{ disk: 'vda' }, { disk: 'vdb' }] },
    ]);
    const one = await register(db, host, { vda: tops.vda });
    expect(one).toMatchObject({ created: true, sequence: 2 });
  });

  it('finds its parents by the nearest registered layer beneath, or by the same file', async () => {
    const { db } = database();
    const host = fresh('host');
    const [base, hidden, top] = ['base', 'hidden', 'top'].map(name => fileAt(`/images/${host}/${name}`));
    if (base === undefined || hidden === undefined || top === undefined) throw new Error();
    const other = fileAt(`/images/${host}/other`);
    const first = await register(db, host, { vda: base, vdb: other });
    const second = await register(db, host, { vda: top, vdb: other }, { vda: [hidden, base] });
    const revert = await register(db, host, { vda: fileAt(`/images/${host}/new`) }, { vda: [base] });
    const rows = await db('disk_snapshots as ds')
      .join('disks as d', 'd.id', 'ds.disk_id')
      .join('host_snapshots as hs', 'hs.id', 'ds.host_snapshot_id')
      .join('disk_snapshots as p', 'p.id', 'ds.parent_id')
      .join('host_snapshots as ph', 'ph.id', 'p.host_snapshot_id')
      .whereIn('hs.uuid', [second.snapshot, revert.snapshot])
      .orderBy(['hs.sequence', 'd.ident'])
      .select('hs.uuid', 'd.ident', 'ph.uuid as parent');
    expect(rows).toEqual([
      { uuid: second.snapshot, ident: 'vda', parent: first.snapshot },
      { uuid: second.snapshot, ident: 'vdb', parent: first.snapshot },
      { uuid: revert.snapshot, ident: 'vda', parent: first.snapshot },
    ]);
  });

  it('does not take the file of another host or disk for a parent', async () => {
    const { db } = database();
    const golden = fileAt(`/images/${fresh('golden')}`);
    await register(db, fresh('host'), { vda: golden });
    const host = fresh('host');
    const top = fileAt(`/images/${host}`);
    await register(db, host, { vda: top }, { vda: [golden] });
    await register(db, host, { vdb: fileAt(`/images/${host}.b`) }, { vdb: [top] });
    expect(Object.values(await parentsOf(host))).toEqual([null, null]);
  });

  it('takes the same file under another device number, as after a restart, and no other file', async () => {
    const { db } = database();
    const host = fresh('host');
    const proved = (file: LayerFile, changes: Partial<LayerProof> = {}): LayerFile => {
      const { device, inode } = { ...file, ...changes };
      const marks = { sizeBytes: 4096, mtimeNs: '17', ctimeNs: '18', headerDigest: 'ab'.repeat(16) };
      return { ...file, device, inode, proof: { ...marks, device, inode, ...changes } };
    };
    const base = fileAt('/images/remounted/base.qcow2');
    const { snapshot } = await register(db, host, { vda: proved(base) });
    const moved = { device: '2065' };
    expect(await register(db, host, { vda: proved(base, moved) })).toMatchObject({
      snapshot,
      created: false,
    });
    const top = fileAt('/images/remounted/top.qcow2');
    const next = await register(db, host, { vda: proved(top) }, { vda: [proved(base, moved)] });
    expect(next).toMatchObject({ created: true });

    const refused = { code: 'ImageReplaced' };
    const others = [
      proved(base, { ...moved, inode: '7' }),
      proved(base, { ...moved, sizeBytes: 8192 }),
      proved(base, { ...moved, mtimeNs: '19' }),
      proved(base, { ...moved, ctimeNs: '20' }),
      proved(base, { ...moved, headerDigest: 'cd'.repeat(16) }),
      // Of a version that does not prove.
      { ...base, ...moved },
    ];
    for (const other of others) {
      await expect(register(db, host, { vda: other })).rejects.toMatchObject(refused);
      await expect(
        register(db, host, { vda: fileAt('/images/new') }, { vda: [other] }),
      ).rejects.toMatchObject(refused);
    }
  });

  it('refuses another file at a registered path, as top or beneath, and says what to do', async () => {
    const { db } = database();
    const host = fresh('host');
    const base = fileAt(`/images/${host}/base`);
    const { snapshot } = await register(db, host, { vda: base });
    const replaced = fileAt(base.path);
    const refused = { code: 'ImageReplaced', hint: expect.stringContaining(`source forget ${snapshot}`) };
    await expect(register(db, host, { vda: replaced })).rejects.toMatchObject(refused);
    const top = fileAt(`/images/${host}/top`);
    await expect(register(db, host, { vda: top }, { vda: [replaced] })).rejects.toMatchObject(refused);
    await openInventory().forget(snapshot);
    expect(await register(db, host, { vda: replaced })).toMatchObject({ created: true });
  });

  it('refuses no disks, a bad ident and a relative path, and leaves nothing behind', async () => {
    const { db } = database();
    const invalid = { code: 'InvalidInput' };
    const host = fresh('host');
    await expect(register(db, host, {})).rejects.toMatchObject(invalid);
    await expect(register(db, '../etc', { vda: fileAt('/images/x') })).rejects.toMatchObject(invalid);
    await expect(register(db, host, { 'vd/a': fileAt('/images/x') })).rejects.toMatchObject(invalid);
    await expect(register(db, host, { vda: fileAt('images/x') })).rejects.toMatchObject(invalid);
    expect(await db('hosts').where({ ident: host })).toEqual([]);
  });

  it('gives two different snapshots at once two places in the order', async () => {
    const { db } = database();
    const host = fresh('host');
    const made = await Promise.all(
      [1, 2, 3, 4].map(index => register(db, host, { vda: fileAt(`/images/${host}/${index}`) })),
    );
    expect(made.map(({ sequence }) => sequence).sort()).toEqual([1, 2, 3, 4]);
  });
});

describe('forgetting a snapshot', () => {
  it('ties what stands on it to the layer beneath', async () => {
    const host = fresh('host');
    const [bottom = '', middle = '', top = ''] = await registerChain(database().db, host, 3);
    expect(await openInventory().forget(middle)).toEqual({ host, snapshot: middle, reparented: 1 });
    expect(await parentsOf(host)).toEqual({ [bottom]: null, [top]: bottom });
    await expect(openInventory().forget(middle)).rejects.toMatchObject({ code: 'NotInCatalog' });
    await expect(openInventory().forget('nonsense')).rejects.toMatchObject({ code: 'NotInCatalog' });
  });

  it('is refused while it or one above it is locked, naming snapshot, holder and age', async () => {
    const host = fresh('host');
    const [bottom = '', middle = '', top = ''] = await registerChain(database().db, host, 3);
    const lockType = await lock(host, middle);
    for (const held of [bottom, middle]) {
      const error = await openInventory()
        .forget(held)
        .catch(caught => caught);
      expect(error.code).toBe('SnapshotLocked');
      expect(error.message).toMatch(new RegExp(`snapshot ${middle}.* is locked by ${lockType} for \\d+ s`));
    }
    await openInventory().forget(top);
    expect(await parentsOf(host)).toEqual({ [bottom]: null, [middle]: bottom });
  });

  it('excludes a lock that is taken at the same time: one of the two is refused', async () => {
    for (let round = 0; round < 5; round += 1) {
      const host = fresh('host');
      const [bottom = '', top = ''] = await registerChain(database().db, host, 2);
      const [forgotten] = await Promise.allSettled([openInventory().forget(bottom), lock(host, top)]);
      const left = (await openInventory().listSnapshots({ host })).map(({ snapshot }) => snapshot);
      expect(left).toEqual(forgotten.status === 'fulfilled' ? [top] : [bottom, top]);
    }
  });
});

describe('listing', () => {
  it('shows locks with holder and age, and snapshots by host and sequence', async () => {
    const host = fresh('host');
    const uuids = await registerChain(database().db, host, 2);
    const lockType = await lock(host, uuids[1] ?? '');
    const locks = (await openInventory().listLocks()).filter(row => row.host === host);
    expect(locks).toMatchObject([
      { snapshot: uuids[1], lockType, generation: 1, holder: { replicaSite: 'b' } },
    ]);
    expect(lockType).toContain(locks[0]?.holder.scheduleUuid);
    expect(locks[0]?.ageMs).toBeGreaterThanOrEqual(0);
    expect((await openInventory().listSnapshots({ host })).map(row => row.snapshot)).toEqual(uuids);
    expect(await openInventory().listSnapshots({ host: 'nobody' })).toEqual([]);
    expect((await openInventory().listSnapshots()).length).toBeGreaterThan(1);
  });
});
