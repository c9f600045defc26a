-- The URL that is told of the end of this task.
alter table @table@ add column if not exists callback_url text;
