-- A claim that names kinds does not walk past the tasks of all others.
create index concurrently if not exists @kinds_index@ on @table@ (kind, priority desc, scheduled_at) where status = 'pending';
