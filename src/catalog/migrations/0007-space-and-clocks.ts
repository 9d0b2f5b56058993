/** Files that other nodes are to remove, what the source's guard let go, and how far the source's clock is off. */
export const sql = `
-- At the replica: the rows of these files are gone; the worker of the node removes them when it runs.
create table replica_files_to_remove (
  id bigint generated always as identity primary key,
  node site_name not null,
  path text not null check (path like '/%'),
  left_at timestamptz not null default now(),
  unique (node, path)
);

-- At the source: a lock that the guard released because space was low. It stays until the schedule has asked again
-- and was told.
create table guard_releases (
  id bigint generated always as identity primary key,
  schedule_uuid uuid not null,
  lock_type lock_type not null,
  host_snapshot uuid not null,
  task_uuid uuid not null,
  locked_at timestamptz not null,
  released_at timestamptz not null default now(),
  -- Which folder was low, and how much of it was free.
  folder text not null,
  free_bytes byte_count not null
);
create index guard_releases_schedule on guard_releases (schedule_uuid);

-- At the replica: this site's clock minus the source's, in milliseconds, as the hello of a transfer told it: the
-- newest of a schedule, and the first of a snapshot, which lies nearest to when it was taken.
alter table remote_backup_schedules add column source_clock_offset_ms bigint;
alter table host_snapshots add column clock_offset_ms bigint;
`;
