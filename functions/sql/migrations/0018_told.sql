-- Every end can be told, to several addresses. An address is a name; its URL is in the environment
-- of the sweep, or here for a database that sends by itself (pg_net).
alter table unstuck.outbox
  add column if not exists address text not null default 'default',
  -- how the attempt ended; or notice, which is of no task
  add column if not exists state   text not null default 'failed',
  add column if not exists url     text,  -- of the task's own callback
  add column if not exists request bigint;  -- of pg_net, while nobody has read its answer
create index outbox_task on unstuck.outbox (watch, task_id) where ended_at is null;

create table unstuck.addresses (
  name    text primary key,
  url     text,                     -- `vault:NAME` stands for a secret of Supabase's Vault
  secret  text,                     -- as url
  headers jsonb not null default '{}',
  hosts   text[] not null default '{}',  -- of `callback`: the hosts that a task may name
  seen_at timestamptz               -- when a sweep last asked for what this address is to be told
);
alter table unstuck.addresses enable row level security;
