-- What has ended and is old is found by its pages (retention of tasks). Such an index costs a write
-- next to nothing.
create index concurrently if not exists @finished_index@ on @table@
using brin (finished_at) with (autosummarize = on);
