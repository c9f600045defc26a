-- What workers did last, as a run of the sweep has read it for its batches, and when.
alter table unstuck.sweeps
  add column if not exists turns    jsonb,
  add column if not exists turns_at timestamptz;
