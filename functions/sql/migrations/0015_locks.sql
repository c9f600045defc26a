-- What one transaction at a time may do: begin a sweep, take a message, create a task of an owner.
-- Rows that are locked, since any role that may connect can hold an advisory lock for ever.
create table unstuck.locks (
  name text primary key
);

alter table unstuck.locks enable row level security;
