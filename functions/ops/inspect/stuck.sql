-- The stuck rows of one state, the oldest first. @stuck@ is the test that fix.sql repeats.
select @key@::text, @status@, extract(epoch from now() - @since@)::float8, @kind@, @rule@,
       extract(epoch from now() - (@when@))::float8, @action@, count(*) over ()
from @table@ t
where @stuck@
order by @since@ nulls first
@limit@
