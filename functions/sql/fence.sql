-- fence: refuses foreign writes that would leave a terminal state, rewrite how a task ended, or end
-- a task that an attempt holds; records what it refused in unstuck.refusals.
-- Unstuck's own statements have ended the attempt before they update the row. They also set
-- unstuck.override, and so the trigger does not fire for them. That of an operator is the watch;
-- that of settle and sweep is valid at one trigger depth only: updates made by the user's own
-- triggers run one level deeper and are checked. Any role may set such a variable; it counts for
-- those alone who may use our schema.
-- With `fence: observe` it is a rehearsal: it writes down what it would refuse, and lets it pass.
-- A change between two status values of the same state (rendering -> uploading) is allowed. So is a
-- note on a task that has ended, in any other column; the time of its end stays, since some tables
-- have a trigger that sets it at each update.
create or replace function unstuck.@watch@_fence() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_because text;
begin
  if @has_ended(old)@ then
    if (@state(old)@ is not distinct from @state(new)@) and not (@end_differs(old, new)@) then
      if not @rehearses@ then
        @keep_finish(old, new)@
      end if;
      return new;
    end if;
    v_because := 'ended';
  elsif (
    @state(old)@ is distinct from @state(new)@
    or old.@key@ is distinct from new.@key@  -- its attempt is found by its key
  ) and exists (
    select from unstuck.attempts a
    where a.watch = '@watch@' and a.task_id = old.@key@::text and a.ended_at is null
  ) then
    v_because := 'held';
  else
    if @waits_by_word(new)@ and not (@waits_by_word(old)@) then
      @now_due(new)@
    end if;
    return new;
  end if;
  perform unstuck.refused(
    '@watch@',
    old.@key@::text,
    case when @rehearses@ then 'rehearsal' else 'fence' end,
    new.@status@::text,
    v_because,
    null,
    coalesce(nullif(current_setting('application_name', true), ''), session_user)
  );
  if @rehearses@ then
    return new;
  end if;
  raise warning 'unstuck: task % stays %: it is %', old.@key@, old.@status@, v_because
    using hint = format(
      'Call unstuck.%s_operate(%L, array[%L]) to start an ended task again; cancel a held one.',
      '@watch@', 'retry', old.@key@::text
    );
  return null;
end $$;

-- The condition is short: each statement reads and prepares it anew (one that compared states took
-- a quarter of claim and settle). The depth is cast to text: `||` with a number is a function in
-- SQL, whose body would be read anew as well.
select unstuck.keep_trigger(@table_literal@, 'unstuck_fence', $trigger$
before update on @table@
for each row when (
  not (@is_waiting(old)@) and (
    current_setting('unstuck.override', true) in ('@watch@', '@watch@/' || pg_trigger_depth()::text)
    and has_schema_privilege('unstuck', 'usage')
  ) is not true
) execute function unstuck.@watch@_fence()
$trigger$);
