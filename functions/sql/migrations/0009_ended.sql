-- By the time of the end, where it was by the start: a claim has one index less to write, and retention counts from the end.
drop index unstuck.attempts_started, unstuck.attempts_failed;
create index attempts_ended on unstuck.attempts (ended_at) where ended_at is not null;
create index attempts_failed on unstuck.attempts (watch, ended_at) where outcome in ('failed', 'cancelled');
