-- As for the ledger: see 0008_checks.
alter table @table@
  drop constraint @status_check@,
  add constraint @status_check@ check (status::unstuck.status is not null);
