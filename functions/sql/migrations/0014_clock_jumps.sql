-- When the clock of the database was set by more than a sweep can explain, and by how many seconds.
create table unstuck.clock_jumps (
  sweep_id bigint           primary key,                -- the run that found it
  at       timestamptz      not null default clock_timestamp(),
  seconds  double precision not null                    -- above 0: the clock was set forward
);

alter table unstuck.clock_jumps enable row level security;
