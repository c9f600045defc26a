-- Only where a rule names a retention. What has ended and is old is found by its state and time; so
-- is the result of a completed task, and what lost it already is not read again.
create index concurrently if not exists @ended_index@ on @table@ (status, finished_at)
where finished_at is not null;
create index concurrently if not exists @result_index@ on @table@ (finished_at)
where status = 'completed' and result is not null;
drop index concurrently if exists @in_schema@@finished_index@;
