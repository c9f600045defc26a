-- What claims have to see of a clock that was set forward stands beside the pauses (mark_clock).
insert into unstuck.pauses (watch, kind, until, who)
select '', 'clock', j.at + interval '30 days', 'clock'
from unstuck.clock_jumps j
where j.at > clock_timestamp() - interval '30 days'
limit 1
on conflict do nothing;
