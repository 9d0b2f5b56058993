/** Locks, subscriptions, fences and senders: what a source keeps for its schedules. */
export const sql = `
create domain lock_type as text
  check (value ~ '^remote_schedule_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$');

create table schedule_fences (
  schedule_uuid uuid primary key,
  lock_type lock_type not null,
  generation bigint not null check (generation >= 0),
  plan bigint not null check (plan >= 0),
  -- Who asks; null until it has asked.
  replica_site site_name,
  tombstoned_at timestamptz
);

create table host_snapshot_locks (
  id bigint generated always as identity primary key,
  host_snapshot_id bigint not null references host_snapshots on delete restrict,
  lock_type lock_type not null,
  task_uuid uuid not null,
  generation bigint not null check (generation >= 0),
  locked_at timestamptz not null default now(),
  unique (host_snapshot_id, lock_type, task_uuid)
);
create index host_snapshot_locks_type on host_snapshot_locks (lock_type);

create table snapshot_subscriptions (
  schedule_uuid uuid primary key,
  replica_site site_name not null,
  schedule_name ident not null,
  -- An ident, not a reference: the host may be unknown yet.
  host ident not null,
  -- The newest sequence that the answer knew; 0 when there was none.
  answered_sequence bigint not null check (answered_sequence >= 0),
  answered_position jsonb,
  subscribed_at timestamptz not null default now()
);
create index snapshot_subscriptions_host on snapshot_subscriptions (host);

create table sync_answers (
  task_uuid uuid not null,
  plan bigint not null check (plan > 0),
  schedule_uuid uuid not null,
  generation bigint not null check (generation > 0),
  answer jsonb not null,
  answered_at timestamptz not null default now(),
  primary key (task_uuid, plan)
);
create index sync_answers_schedule on sync_answers (schedule_uuid, generation);

create sequence worker_instances as integer;

create table disk_senders (
  disk_task_uuid uuid not null,
  -- The worker process; it holds the advisory lock of this number as long as it lives.
  instance integer not null check (instance > 0),
  schedule_uuid uuid not null,
  generation bigint not null check (generation > 0),
  plan bigint not null check (plan > 0),
  node site_name not null,
  started_at timestamptz not null default now(),
  stop_requested_at timestamptz,
  -- Since when the process's lock has been seen free.
  lost_since timestamptz,
  ended_at timestamptz,
  primary key (disk_task_uuid, instance)
);
create index disk_senders_schedule on disk_senders (schedule_uuid);
create index disk_senders_stopping on disk_senders (instance)
  where stop_requested_at is not null and ended_at is null;

-- The lock that holds a disk snapshot or one that stands on it, in words; null when there is none.
create function lock_holding(wanted bigint) returns text language sql stable as $$
  with recursive above (id, host_snapshot_id) as (
    select id, host_snapshot_id from disk_snapshots where id = wanted
    union
    select child.id, child.host_snapshot_id from disk_snapshots child join above on child.parent_id = above.id
  )
  select 'snapshot ' || hs.uuid || ' is locked by ' || l.lock_type || ' since '
      || to_char(l.locked_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    from above
    join host_snapshot_locks l on l.host_snapshot_id = above.host_snapshot_id
    join host_snapshots hs on hs.id = l.host_snapshot_id
    order by l.locked_at, l.id
    limit 1
$$;

-- Locking and deleting exclude each other by the host's row, so that neither overlooks the other.
create function serialize_lock() returns trigger language plpgsql as $$
begin
  perform 1 from hosts h join host_snapshots hs on hs.host_id = h.id
    where hs.id = new.host_snapshot_id for share of h;
  return new;
end $$;
create trigger serialize_lock before insert on host_snapshot_locks
  for each row execute function serialize_lock();

create function refuse_locked_disk_snapshot() returns trigger language plpgsql as $$
declare holder text;
begin
  perform 1 from hosts h join disks d on d.host_id = h.id where d.id = old.disk_id for update of h;
  holder := lock_holding(old.id);
  if holder is not null then
    raise exception '%', holder using errcode = 'OS001';
  end if;
  return old;
end $$;
create trigger refuse_locked before delete on disk_snapshots
  for each row execute function refuse_locked_disk_snapshot();

create function refuse_locked_host_snapshot() returns trigger language plpgsql as $$
declare holder text;
begin
  perform 1 from hosts where id = old.host_id for update;
  select 'snapshot ' || old.uuid || ' is locked by ' || l.lock_type || ' since '
      || to_char(l.locked_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') into holder
    from host_snapshot_locks l where l.host_snapshot_id = old.id order by l.locked_at limit 1;
  if holder is null then
    select lock_holding(id) into holder from disk_snapshots
      where host_snapshot_id = old.id and lock_holding(id) is not null limit 1;
  end if;
  if holder is not null then
    raise exception '%', holder using errcode = 'OS001';
  end if;
  return old;
end $$;
create trigger refuse_locked before delete on host_snapshots
  for each row execute function refuse_locked_host_snapshot();
`;
