-- When a task of an owner has its turn: one second after the one before it of the same owner, kind
-- and priority. So the tasks of an owner who has a thousand do not all come before that of another.
-- Null: since it waits.
alter table @table@ add column turn timestamptz;
