select unstuck.keep_trigger(@table_literal@, 'unstuck_heed', $trigger$
after insert on @table@
for each statement execute function unstuck.heeded()
$trigger$);
