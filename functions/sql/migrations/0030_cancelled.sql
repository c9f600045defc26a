-- How many tasks were cancelled: among thousands that failed each of those was read to count a few.
create index concurrently if not exists attempts_cancelled
on unstuck.attempts (watch, ended_at)
where outcome = 'cancelled';
