-- Takes stuck rows that nobody holds, tests them as the look did, status and age, and writes them:
-- in one statement. Under read committed the lock tests a row again that somebody changed in
-- between, so that a task which was finished meanwhile is not overwritten.
with overdue as materialized (
  select @key@ as key from @table@ t where @picked@ @order@ @limit@ for update of t skip locked
)
update @table@ t set @write@
from overdue o
where @key@ = o.key and @test@
returning @key@::text
