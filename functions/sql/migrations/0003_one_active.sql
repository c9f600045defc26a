-- One open task of a kind for each owner, where a row says so: `create` says it for kinds whose rule is `one_active`.
-- Other writers of the table take part when they write the column too.

alter table @table@ add column one_active boolean not null default false;
create unique index @one_active_index@ on @table@ (kind, coalesce(owner, '')) where one_active and status in ('pending', 'processing');
