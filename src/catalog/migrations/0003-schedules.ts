/** Schedules, tasks, disk tasks and receivers: what a replica keeps. */
export const sql = `
create table remote_backup_schedules (
  uuid uuid primary key,
  name ident not null,
  replica_site site_name not null,
  source_site site_name not null,
  host ident not null,
  settings jsonb not null,
  paused boolean not null default false,
  -- Set while it is being deleted, and after.
  deleting boolean not null default false,
  purge boolean not null default false,
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  next_run_at timestamptz,
  -- The run that next_run_at follows; null for the first.
  next_run_after timestamptz,
  last_generation bigint not null default 0 check (last_generation >= 0),
  -- The contract's Cursor, and the row that it names: a cursor never stands ahead of its point.
  cursor jsonb,
  cursor_snapshot_id bigint references host_snapshots on delete restrict,
  cursor_generation bigint,
  constraint cursor_is_whole check ((cursor is null) = (cursor_generation is null)),
  constraint cursor_has_its_point check (deleting or (cursor is null) = (cursor_snapshot_id is null)),
  constraint deleted_after_deleting check (deleted_at is null or deleting)
);
create unique index one_live_schedule_a_name on remote_backup_schedules (name) where deleted_at is null;
create unique index one_live_schedule_a_host on remote_backup_schedules (host, source_site)
  where deleted_at is null;

create table remote_backup_tasks (
  id bigint generated always as identity primary key,
  uuid uuid not null unique,
  schedule_uuid uuid not null references remote_backup_schedules on delete restrict,
  generation bigint not null check (generation > 0),
  plan bigint not null default 1 check (plan > 0),
  plan_reasons jsonb not null default '[]',
  prev_info jsonb,
  current_info jsonb not null,
  sync_info jsonb,
  target_snapshot_id bigint references host_snapshots on delete restrict,
  outcome text check (outcome in ('published', 'upToDate', 'waiting', 'paused', 'stopped', 'superseded')),
  reason text,
  warnings jsonb not null default '[]',
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  unique (schedule_uuid, generation),
  constraint finished_has_outcome check ((outcome is null) = (finished_at is null)),
  constraint published_has_answer check (outcome <> 'published' or sync_info is not null)
);
create unique index one_unfinished_task_a_schedule on remote_backup_tasks (schedule_uuid)
  where finished_at is null;

create table remote_backup_disk_tasks (
  uuid uuid primary key default gen_random_uuid(),
  task_id bigint not null references remote_backup_tasks on delete restrict,
  plan bigint not null check (plan > 0),
  disk_id bigint not null references disks on delete restrict,
  method text not null check (method in ('full', 'incremental', 'compare', 'append')),
  reason text not null,
  base_snapshot uuid,
  base_storage_id bigint references snapshot_storages on delete restrict,
  node site_name not null,
  -- The target; null once a deleted schedule's partial snapshot was dropped.
  disk_snapshot_id bigint references disk_snapshots on delete restrict,
  storage_id bigint references snapshot_storages on delete restrict,
  state text not null default 'planned' check (state in ('planned', 'received', 'sealed')),
  bytes_sent byte_count not null default 0,
  bytes_total byte_count not null default 0,
  unique (task_id, plan, disk_id),
  constraint sealed_has_storage check (state <> 'sealed' or storage_id is not null or disk_snapshot_id is null)
);
create index remote_backup_disk_tasks_target on remote_backup_disk_tasks (disk_snapshot_id);
create index remote_backup_disk_tasks_storage on remote_backup_disk_tasks (storage_id);
create index remote_backup_disk_tasks_base on remote_backup_disk_tasks (base_storage_id);

create table receiver_sessions (
  disk_task_uuid uuid primary key references remote_backup_disk_tasks on delete restrict,
  generation bigint not null check (generation > 0),
  plan bigint not null check (plan > 0),
  open_count bigint not null check (open_count > 0),
  sender_fingerprint fingerprint not null,
  state text not null check (state in ('open', 'received', 'closed')),
  total_bytes byte_count,
  content_digest digest128,
  opened_at timestamptz not null default now(),
  constraint received_is_whole check (
    (state = 'received') = (total_bytes is not null) and (state = 'received') = (content_digest is not null)
  )
);
`;
