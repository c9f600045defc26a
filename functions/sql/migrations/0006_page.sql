-- What the operators' page reads and no verb does: the attempts that failed, and those that a sweep ended. Both are few.
create index attempts_failed on unstuck.attempts (watch, started_at) where outcome in ('failed', 'cancelled');
create index attempts_swept on unstuck.attempts (sweep_id) where sweep_id > 0;

-- When each checkpoint was written, in seconds since 1970, for the timeline.
alter table unstuck.attempts add column checkpoint_at jsonb not null default '{}';
