-- How many rows are in one state.
select count(*) from @table@ t where @open@
