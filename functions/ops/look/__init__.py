"""Look: finds what is stuck in a table that was not made for it, with nothing installed. `check` is its command.

catalogue    what PostgreSQL knows of the table, and the values that occur in it       (reads)
words        which state a word means                                                  (pure; vocabulary.yaml)
columns      which column tells what                                                   (pure; vocabulary.yaml)
people       whether the table is for people rather than for workers                   (pure; vocabulary.yaml)
infer        the mapping: all of these together, and what is not certain               (pure)
mapping      the mapping itself, and the --map file that overrides it                  (pure)
stuck        the rows that are stuck, and why                                          (reads)
fix          ends them                                                                 (writes)
"""
