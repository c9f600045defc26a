-- What workers did last, without the ends that a sweep wrote between: after a sweep of many tasks
-- each batch, and each poll, walked past all of them. By an expression, so that the planner cannot
-- take the index of all ends for as good.
create index concurrently if not exists attempts_worked
on unstuck.attempts (watch, (coalesce(ended_at, 'infinity')))
where ended_at is not null and worker is not null and sweep_id is null;
