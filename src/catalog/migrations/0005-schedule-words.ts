/** What an operator asked of a schedule beyond a plain pause, and of the rate of its running task. */
export const sql = `
alter table remote_backup_schedules
  -- To be paused once the running task has ended.
  add column draining boolean not null default false,
  -- What an unfinished task began is to be given up, here and at the source.
  add column releasing boolean not null default false,
  -- The number of the newest write of pause or settings; an older one comes too late.
  add column revision bigint not null default 0 check (revision >= 0);

-- At the source: the rate of a task's senders, where it changed since the task began.
create table task_rates (
  task_uuid uuid primary key,
  schedule_uuid uuid not null,
  revision bigint not null check (revision > 0),
  -- Null for no limit.
  bytes_per_second bigint check (bytes_per_second > 0)
);
create index task_rates_schedule on task_rates (schedule_uuid);
`;
