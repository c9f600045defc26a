-- By their time: what is kept is pruned by an index, and a sweep costs the same however much is kept.
create index concurrently if not exists dispatches_at on unstuck.dispatches (at);
create index concurrently if not exists operations_at on unstuck.operations (at);
create index concurrently if not exists refusals_at on unstuck.refusals (at);
create index concurrently if not exists outbox_at on unstuck.outbox (at);
create index concurrently if not exists observed_status_at on unstuck.observed (watch, status_at);
create index concurrently if not exists sweeps_started on unstuck.sweeps (started_at);
create index concurrently if not exists sweeps_open on unstuck.sweeps (until) where ended_at is null;
