-- How often a sweep by pg_cron is to run, so that a claim, a create or a poll can notice that it
-- does not.
create table unstuck.watchdog (
  installation text        primary key,
  every        interval    not null,
  since        timestamptz not null default clock_timestamp(),
  told_at      timestamptz                                       -- when its silence was told last
);
alter table unstuck.watchdog enable row level security;
create index outbox_request on unstuck.outbox (request)
where ended_at is null and request is not null;
