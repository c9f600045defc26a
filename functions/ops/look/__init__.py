"""Look: finds what is stuck in a table that was not made for it, with nothing installed. `check` is
its command.

catalogue    what PostgreSQL knows of the table, and the values that occur in it       (reads)
listed       the words that CHECKs, indexes, triggers and comments list                (pure) words
which state a word means                                                  (pure; vocabulary.yaml)
columns      which column tells what                                                   (pure;
vocabulary.yaml) people       whether the table is for people rather than for workers
(pure; vocabulary.yaml) status       which column is the status, and its words clocks       which
columns tell the times                                              (pure) infer        the mapping:
all of these together, and what is not certain               (pure) mapping      the mapping itself,
and the --map file that overrides it                  (pure) overdue      the test by which a task
is stuck, as SQL                                 (pure) stuck        the rows that are stuck, and
why                                          (reads) fix          ends them, by the same test
(writes) indexes      whether an index leads to the open rows, and which one would
(pure) sentences    all that is said to a person about what is not certain check        what the
command does with all of these"""
