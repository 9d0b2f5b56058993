/** Epochs of continuous data protection: docs/decisions/0048. */
export const sql = `
-- An open or ended CDP host snapshot, in either role: its frozen base, and how far all its disks' journals go together.
create table cdp_epochs (
  host_snapshot_id bigint primary key references host_snapshots on delete cascade,
  base_snapshot_id bigint not null references host_snapshots,
  -- Counts the epochs of the host at its origin.
  epoch bigint not null check (epoch > 0),
  -- Null while a recorder may still add to it.
  ended_at timestamptz,
  ended_reason text,
  -- The sequence of the newest checkpoint that every disk has: durable at the source, published at a replica. 0: none yet.
  newest_checkpoint bigint not null default 0 check (newest_checkpoint >= 0),
  newest_checkpoint_at timestamptz,
  -- States before this sequence are gone: retention folded them into the base, or dropped them.
  oldest_checkpoint bigint not null default 0 check (oldest_checkpoint >= 0),
  constraint ended_has_reason check ((ended_at is null) = (ended_reason is null)),
  constraint checkpoint_has_time check ((newest_checkpoint = 0) = (newest_checkpoint_at is null))
);
create index cdp_epochs_base on cdp_epochs (base_snapshot_id);

-- Named checkpoints; one counts when the epoch's newest checkpoint is not older.
create table cdp_markers (
  host_snapshot_id bigint not null references cdp_epochs on delete cascade,
  sequence bigint not null check (sequence > 0),
  name text not null check (octet_length(name) between 1 and 255),
  marked_at timestamptz not null,
  primary key (host_snapshot_id, sequence)
);

-- What a replica has of one disk's journal. What is noted here was acknowledged, and is never sent again.
create table cdp_journals (
  storage_id bigint primary key references snapshot_storages on delete cascade,
  -- The number of the next record.
  next_index bigint not null default 0 check (next_index >= 0),
  -- The newest checkpoint among the records before; 0: none.
  checkpoint bigint not null default 0 check (checkpoint >= 0),
  checkpoint_at timestamptz,
  -- Bytes of records, padding included.
  record_bytes byte_count not null default 0
);

-- A journal of a replica is a folder that grows: it has no extent map.
alter table snapshot_storages drop constraint source_or_replica;
alter table snapshot_storages add constraint source_or_replica check (
  (layout_digest is null) = (device is not null)
  and (layout_digest is null) = (inode is not null)
  and (layout_digest is null) = (virtual_size_bytes is null)
  and (layout_digest is null or format = 'cdp') = (map_digest is null)
  and (layout_digest is null or format = 'cdp') = (cluster_size_bytes is null)
);
`;
