-- The values of a column of a small table.
select distinct @column@ from @table@ limit @most@
