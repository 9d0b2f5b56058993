/** What a row must know so that its workflow can be made anew after Temporal lost it. */
export const sql = `
alter table remote_backup_schedules
  -- It is being deleted without waiting for its source.
  add column forced boolean not null default false,
  -- It is deleted, and its source has not confirmed yet that it holds nothing for it any more.
  add column release_pending boolean not null default false,
  add constraint release_after_delete check (not release_pending or deleted_at is not null);
create index releases_pending on remote_backup_schedules (uuid) where release_pending;
`;
