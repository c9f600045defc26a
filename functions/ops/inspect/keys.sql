-- The keys of the rows that fix.sql would take.
select @key@::text from @table@ t where @picked@ @order@ @limit@
