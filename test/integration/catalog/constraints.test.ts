/** What the database itself refuses, whoever writes: plain SQL, no repository. */
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { toCatalogError } from '../../../src/catalog/errors.ts';
import { createReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { lockTypeOf } from '../../../src/contract/names.ts';
import { useTestDatabase } from '../../support/database.ts';
import {
  answerOf,
  digestOf,
  FINGERPRINT,
  fresh,
  newSchedule,
  publishTask,
  registerChain,
} from './fixtures.ts';

const database = useTestDatabase();

async function refusal(sql: string, bindings: readonly (string | number)[] = []): Promise<string> {
  const error = await database()
    .db.raw(sql, bindings as never)
    .then(
      () => null,
      caught => caught,
    );
  if (error === null) return 'accepted';
  return toCatalogError(error).message;
}

const rowId = async (table: string, uuid: string): Promise<number> =>
  (await database().db(table).where({ uuid }).first('id')).id;

describe('names', () => {
  it.each(['', '..', '../x', 'a/b', '.hidden', 'a b', 'ä', 'x'.repeat(65), 'line\nbreak', 'end\n', '-x'])(
    'a host is not called %j',
    async name => {
      expect(await refusal('insert into hosts (ident) values (?)', [name])).toContain('ident');
    },
  );

  it.each(['', 'B', '1a', 'a.b', 'a_b', 'x'.repeat(33)])('a node is not called %j', async name => {
    expect(await refusal('insert into nodes values (?, ?)', [name, FINGERPRINT])).toContain('site_name');
  });

  it.each(['ab', 'AB'.repeat(32), `${'ab'.repeat(31)}zz`])('%j is no fingerprint', async text => {
    expect(await refusal('insert into nodes values (?, ?)', ['n1', text])).toContain('fingerprint');
  });
});

describe('host snapshots', () => {
  it('are complete only with a sequence, and no two of a host share one', async () => {
    const host = fresh('host');
    const [first = '', second = ''] = await registerChain(database().db, host, 2);
    const set = 'update host_snapshots set sequence = ? where uuid = ?';
    expect(await refusal(set, [1, second])).toContain('host_id_sequence');
    expect(await refusal('update host_snapshots set sequence = null where uuid = ?', [first])).toContain(
      'complete_has_sequence',
    );
    expect(await refusal(set, [0, first])).toContain('sequence_check');
  });

  it('that are locked cannot be deleted, nor a layer beneath', async () => {
    const { db } = database();
    const uuids = await registerChain(db, fresh('host'), 3);
    const [bottom = '', middle = '', top = ''] = uuids;
    const scheduleUuid = randomUUID();
    await db('host_snapshot_locks').insert({
      host_snapshot_id: await rowId('host_snapshots', middle),
      lock_type: lockTypeOf(scheduleUuid),
      task_uuid: randomUUID(),
      generation: 1,
    });
    const bySnapshot = 'delete from disk_snapshots where host_snapshot_id = ?';
    for (const held of [middle, bottom]) {
      const id = await rowId('host_snapshots', held);
      // The trigger speaks before any foreign key does.
      const why = `snapshot ${middle} is locked by remote_schedule_${scheduleUuid}`;
      expect(await refusal(bySnapshot, [id])).toContain(why);
      expect(await refusal('delete from host_snapshots where id = ?', [id])).toContain(why);
    }
    const topId = await rowId('host_snapshots', top);
    await db('disk_snapshots').where({ host_snapshot_id: topId }).update({ storage_id: null });
    await db.raw(
      'delete from snapshot_storages where disk_snapshot_id in (select id from disk_snapshots where host_snapshot_id = ?)',
      [topId],
    );
    expect(await refusal(bySnapshot, [topId])).toBe('accepted');
    expect(await refusal('delete from host_snapshots where id = ?', [topId])).toBe('accepted');
  });

  it('cannot be locked while they are being deleted', async () => {
    const { db } = database();
    const host = fresh('host');
    const [uuid = ''] = await registerChain(db, host, 1);
    const id = await rowId('host_snapshots', uuid);
    const trx = await db.transaction();
    await trx('disk_snapshots').where({ host_snapshot_id: id }).update({ storage_id: null });
    await trx.raw(
      'delete from snapshot_storages where disk_snapshot_id in (select id from disk_snapshots where host_snapshot_id = ?)',
      [id],
    );
    await trx('disk_snapshots').where({ host_snapshot_id: id }).delete();
    const locking = refusal(
      `insert into host_snapshot_locks (host_snapshot_id, lock_type, task_uuid, generation) values (?, ?, ?, 1)`,
      [id, lockTypeOf(randomUUID()), randomUUID()],
    );
    await trx('host_snapshots').where({ id }).delete();
    await trx.commit();
    expect(await locking).toContain('host_snapshot_locks_host_snapshot_id_fkey');
  });
});

describe('storages', () => {
  it('are in use only when published, and only for their own disk snapshot', async () => {
    const { db } = database();
    const catalog = createReplicaCatalog(db, { site: 'b', replicaRoot: '/replicas' });
    const spec = await newSchedule(catalog);
    await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    await publishTask(catalog, spec.uuid, answerOf(randomUUID()));
    const [one, two] = await db('disk_snapshots as ds')
      .join('disks as d', 'd.id', 'ds.disk_id')
      .join('hosts as h', 'h.id', 'd.host_id')
      .where('h.ident', spec.host)
      .select('ds.id', 'ds.storage_id');
    expect(
      await refusal('update disk_snapshots set storage_id = ? where id = ?', [two.storage_id, one.id]),
    ).toContain('storage_in_use');
    const [partial] = await db('snapshot_storages')
      .insert({
        disk_snapshot_id: one.id,
        node: 'b1',
        path: '/replicas/partial.qcow2',
        format: 'qcow2',
        state: 'partial',
        layout_digest: digestOf(999_999),
        map_digest: digestOf(1),
        virtual_size_bytes: 1,
        cluster_size_bytes: 65_536,
      })
      .returning('id');
    expect(
      await refusal('update disk_snapshots set storage_id = ? where id = ?', [partial.id, one.id]),
    ).toContain('published_storages_only');
    expect(
      await refusal('update snapshot_storages set base_storage_id = ? where id = ?', [
        partial.id,
        two.storage_id,
      ]),
    ).toContain('published_bases_only');
    expect(await refusal('delete from snapshot_storages where id = ?', [one.storage_id])).not.toBe(
      'accepted',
    );
  });
});

describe('schedules', () => {
  it('have one unfinished task, and each generation once', async () => {
    const { db } = database();
    const catalog = createReplicaCatalog(db, { site: 'b', replicaRoot: '/replicas' });
    const { uuid } = await newSchedule(catalog);
    await catalog.createEmptyTask({ scheduleUuid: uuid, taskUuid: randomUUID() });
    const insert = `insert into remote_backup_tasks (uuid, schedule_uuid, generation, current_info) values (?, ?, ?, '{}')`;
    expect(await refusal(insert, [randomUUID(), uuid, 2])).toContain('one_unfinished_task_a_schedule');
    expect(await refusal(insert, [randomUUID(), uuid, 1])).toContain('schedule_uuid_generation');
  });

  it('have no cursor without its recovery point, and the point stays', async () => {
    const { db } = database();
    const catalog = createReplicaCatalog(db, { site: 'b', replicaRoot: '/replicas' });
    const { uuid } = await newSchedule(catalog);
    const target = randomUUID();
    await publishTask(catalog, uuid, answerOf(target));
    expect(
      await refusal('update remote_backup_schedules set cursor_snapshot_id = null where uuid = ?', [uuid]),
    ).toContain('cursor_has_its_point');
    const id = await rowId('host_snapshots', target);
    await db('disk_snapshots').where({ host_snapshot_id: id }).update({ storage_id: null });
    expect(await refusal('delete from host_snapshots where id = ?', [id])).toContain('fkey');
  });
});
