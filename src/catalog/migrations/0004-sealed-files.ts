/** What a replica's file was when it was sealed: the base of its proof. */
export const sql = `
-- The house's SealedFile; null until it is sealed.
alter table snapshot_storages add column sealed_file jsonb,
  add constraint replica_files_are_sealed check (sealed_file is null or layout_digest is not null);
`;
