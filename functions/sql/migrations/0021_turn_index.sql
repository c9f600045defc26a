-- The order of the claims: the most urgent, then by turn: of any kind, of one kind, and of one
-- owner.
create index concurrently if not exists @turn_index@ on @table@
(priority desc, (coalesce(turn, scheduled_at)), scheduled_at)
where status = 'pending';
create index concurrently if not exists @kind_turn_index@ on @table@
(kind, priority desc, (coalesce(turn, scheduled_at)), scheduled_at)
where status = 'pending';
create index concurrently if not exists @owner_turn_index@ on @table@
(kind, (coalesce(owner, '')), priority desc, (coalesce(turn, scheduled_at)), scheduled_at)
where status = 'pending';
drop index concurrently if exists @in_schema@@claim_index@;
drop index concurrently if exists @in_schema@@kinds_index@;
