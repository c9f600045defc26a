-- The rows of a small table of states, to which a status column points.
select @key@, @label@ from @table@ limit @most@
