-- The values of a column that an index leads to: one descent for each, which reads about 20 pages
-- for 5 words of 1 million rows.
with recursive seen (word, at) as (
  (select @column@, 1 from @table@ where @column@ is not null order by @column@ limit 1)
  union all
  select
    (select t.@column@ from @table@ t where t.@column@ > s.word order by t.@column@ limit 1),
    s.at + 1
  from seen s
  where s.word is not null and s.at < @most@
)
select word from seen where word is not null
