/** What is known of the state of replica files at rest, and by which marks a source's files are told apart. */
export const sql = `
alter table snapshot_storages
  -- When every byte of the file was last read and compared, whatever came of it.
  add column verified_at timestamptz,
  -- 'doubt': the file's marks are not those that were recorded, its content was not read. 'content': it was.
  add column damage_kind text check (damage_kind in ('doubt', 'content')),
  add column damage text,
  add column damage_found_at timestamptz,
  add constraint damage_is_whole
    check ((damage is null) = (damage_kind is null) and (damage is null) = (damage_found_at is null)),
  -- The house's LayerProof of a source's file when it was registered; null from versions before.
  add column source_file jsonb,
  add constraint source_files_are_sources check (source_file is null or layout_digest is null);
create index snapshot_storages_damaged on snapshot_storages (disk_snapshot_id) where damage is not null;

-- The folders of replicas: each has a file with its id, so that a folder that is not mounted is told from an empty one.
create table replica_roots (
  node site_name not null,
  path text not null check (path like '/%'),
  root_id uuid not null,
  noted_at timestamptz not null default now(),
  primary key (node, path)
);
`;
