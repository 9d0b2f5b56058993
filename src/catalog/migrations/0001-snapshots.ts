/** Nodes, hosts, disks, their snapshots and the files behind them. */
export const sql = `
-- The strict character sets of src/contract/names.ts: names become paths and parts of task queues.
create domain site_name as text check (value ~ '^[a-z][a-z0-9-]{0,31}$');
create domain ident as text check (value ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$');
create domain fingerprint as text check (value ~ '^[0-9a-f]{64}$');
create domain digest128 as text check (value ~ '^[0-9a-f]{32}$');
-- Device and inode numbers are unsigned 64 bits: decimal text, as in the proofs of layers.
create domain file_number as text check (value ~ '^[0-9]{1,20}$');
create domain byte_count as bigint check (value >= 0);

create table nodes (
  name site_name primary key,
  fingerprint fingerprint not null,
  registered_at timestamptz not null default now()
);

create table pinned_receivers (
  replica_site site_name not null,
  endpoint text not null check (endpoint <> ''),
  fingerprint fingerprint not null,
  pinned_at timestamptz not null default now(),
  primary key (replica_site, endpoint)
);

create table hosts (
  id bigint generated always as identity primary key,
  ident ident not null unique,
  -- The newest sequence given; raised under this row's lock only.
  last_sequence bigint not null default 0 check (last_sequence >= 0),
  created_at timestamptz not null default now()
);

create table disks (
  id bigint generated always as identity primary key,
  host_id bigint not null references hosts on delete restrict,
  ident ident not null,
  unique (host_id, ident)
);

create table host_snapshots (
  id bigint generated always as identity primary key,
  uuid uuid not null unique,
  host_id bigint not null references hosts on delete restrict,
  kind text not null default 'qcow2' check (kind in ('qcow2', 'cdp')),
  origin_site site_name not null,
  -- Null where the answering site was not the origin and did not say.
  origin_sequence bigint check (origin_sequence > 0),
  -- Given by this catalog when the snapshot is complete, so that partial ones take no place in the order.
  sequence bigint check (sequence > 0),
  taken_at timestamptz not null,
  state text not null check (state in ('partial', 'complete')),
  published_at timestamptz,
  unique (host_id, sequence),
  constraint complete_has_sequence
    check ((state = 'complete') = (sequence is not null) and (state = 'complete') = (published_at is not null))
);

create table disk_snapshots (
  id bigint generated always as identity primary key,
  host_snapshot_id bigint not null references host_snapshots on delete restrict,
  disk_id bigint not null references disks on delete restrict,
  parent_id bigint references disk_snapshots on delete restrict,
  virtual_size_bytes byte_count not null,
  -- The storage in use; null until one is published.
  storage_id bigint,
  unique (host_snapshot_id, disk_id),
  constraint not_its_own_parent check (parent_id <> id)
);
create index disk_snapshots_parent on disk_snapshots (parent_id);
create index disk_snapshots_disk on disk_snapshots (disk_id);

create table snapshot_storages (
  id bigint generated always as identity primary key,
  disk_snapshot_id bigint not null references disk_snapshots on delete restrict,
  node site_name not null,
  path text not null check (path like '/%'),
  format text not null check (format in ('qcow2', 'cdp')),
  state text not null check (state in ('partial', 'sealed', 'published', 'dropped')),
  -- A source file has (device, inode); a replica file has a layout.
  device file_number,
  inode file_number,
  layout_digest digest128,
  map_digest digest128,
  virtual_size_bytes byte_count,
  cluster_size_bytes bigint check (cluster_size_bytes between 512 and 2097152),
  base_storage_id bigint references snapshot_storages on delete restrict,
  content_digest digest128,
  total_bytes byte_count,
  created_at timestamptz not null default now(),
  published_at timestamptz,
  unique (id, disk_snapshot_id),
  unique (disk_snapshot_id, layout_digest),
  constraint source_or_replica check (
    (layout_digest is null) = (device is not null)
    and (layout_digest is null) = (inode is not null)
    and (layout_digest is null) = (map_digest is null)
    and (layout_digest is null) = (cluster_size_bytes is null)
    and (layout_digest is null) = (virtual_size_bytes is null)
  )
);
create index snapshot_storages_path on snapshot_storages (node, path);
create index snapshot_storages_base on snapshot_storages (base_storage_id);
create unique index one_replica_file_a_path on snapshot_storages (node, path) where layout_digest is not null;

-- The storage in use is one of this disk snapshot's own.
alter table disk_snapshots add constraint storage_in_use
  foreign key (storage_id, id) references snapshot_storages (id, disk_snapshot_id) on delete restrict;

create function published_storages_only() returns trigger language plpgsql as $$
begin
  if new.storage_id is not null and not exists (
    select 1 from snapshot_storages where id = new.storage_id and state = 'published'
  ) then
    raise exception 'storage % is not published', new.storage_id
      using errcode = 'check_violation', constraint = 'published_storages_only';
  end if;
  return new;
end $$;
create trigger published_storages_only before insert or update of storage_id on disk_snapshots
  for each row execute function published_storages_only();

create function published_bases_only() returns trigger language plpgsql as $$
begin
  if new.base_storage_id is not null and not exists (
    select 1 from snapshot_storages where id = new.base_storage_id and state = 'published'
  ) then
    raise exception 'base % is not published', new.base_storage_id
      using errcode = 'check_violation', constraint = 'published_bases_only';
  end if;
  return new;
end $$;
create trigger published_bases_only before insert or update of base_storage_id on snapshot_storages
  for each row execute function published_bases_only();
`;
