/** What a disk was compared with at the replica, and images that an operator brought there to compare with. */
export const sql = `
-- The house's Comparison; null for a disk that is not compared, or not yet.
alter table remote_backup_disk_tasks add column compared jsonb;

-- Images that came by truck: only ever read, and never proven before they were compared.
create table replica_seeds (
  id bigint generated always as identity primary key,
  uuid uuid not null unique,
  host ident not null,
  disk ident not null,
  node site_name not null,
  path text not null check (path like '/%'),
  format text not null check (format in ('qcow2', 'raw')),
  virtual_size_bytes byte_count not null,
  registered_at timestamptz not null default now(),
  -- Set when a recovery point was published that was compared with it: it is of no use any more.
  used_at timestamptz,
  used_by_snapshot uuid,
  constraint used_by_a_point check ((used_at is null) = (used_by_snapshot is null))
);
create unique index one_seed_a_disk on replica_seeds (host, disk) where used_at is null;
`;
