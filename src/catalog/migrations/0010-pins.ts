/** A pin is of a replica site and a certificate, wherever it listens: a new address is no new trust. */
export const sql = `
alter table pinned_receivers
  -- 'command': an operator vouched for it; 'first-use': it was the first that its site showed.
  add column pinned_by text not null default 'first-use' check (pinned_by in ('first-use', 'command'));

-- Of each site only the first stays: later ones came with an address of their own, and nobody vouched for them.
delete from pinned_receivers p using pinned_receivers older
  where older.replica_site = p.replica_site
    and (older.pinned_at, older.endpoint) < (p.pinned_at, p.endpoint);
alter table pinned_receivers drop constraint pinned_receivers_pkey;
alter table pinned_receivers alter column endpoint drop not null;
alter table pinned_receivers add primary key (replica_site, fingerprint);
`;
