-- With `fence: observe` the trigger writes down what `enforce` would have refused.
alter table unstuck.refusals
  drop constraint if exists refusals_source_check,
  add constraint refusals_source_check
    check (source in ('verb', 'fence', 'rehearsal')) not valid;
