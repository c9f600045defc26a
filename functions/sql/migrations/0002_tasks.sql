-- The own table, for those who start new. Those who have a table adopt it instead.

create table @table@ (
  id              uuid        primary key default gen_random_uuid(),
  kind            text        not null,
  input           jsonb       not null default '{}',
  result          jsonb,
  owner           text,
  status          text        not null default 'pending'
                  check (status in ('pending', 'processing', 'completed', 'failed', 'cancelled')),
  error_message   text,
  reason          text,
  priority        integer     not null default 0,
  scheduled_at    timestamptz not null default clock_timestamp(),  -- not before; a retry moves it
  idempotency_key text,
  created_at      timestamptz not null default clock_timestamp(),
  started_at      timestamptz,
  updated_at      timestamptz not null default clock_timestamp(),
  finished_at     timestamptz,
  metadata        jsonb       not null default '{}'
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

-- One partial index for each open state on its own clock: an idle sweep costs the same whatever the table's size.
create index @pending_index@ on @table@ (scheduled_at) where status = 'pending';
create index @running_index@ on @table@ (updated_at) where status = 'processing';
create index @claim_index@ on @table@ (priority desc, scheduled_at) where status = 'pending';
create index @owner_index@ on @table@ (owner, created_at) where owner is not null;
create unique index @idempotency_index@ on @table@ (coalesce(owner, ''), idempotency_key) where idempotency_key is not null;

alter table @table@ enable row level security;
