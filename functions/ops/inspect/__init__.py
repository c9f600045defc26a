"""Finds what is stuck in a table that was not made for it, with nothing installed. `check` is its
command. Only the modules marked "reads" or "writes" use the database; the others are pure.

- catalogue: what PostgreSQL knows of the table, and the values that occur in it (reads)
- word_lists: the words that CHECKs, indexes, triggers and comments list
- vocabulary: the words and column names of vocabulary.yaml, and the rules for ambiguous words
- words: which state a word means
- columns: which column has which role
- people: whether the table is for people rather than for workers
- status: which column is the status, and its words
- clocks: which columns tell the times
- infer: the mapping: all of these together, and what is not certain
- mapping: the mapping itself, and the --map file that overrides it
- overdue: the test by which a task is stuck, as SQL
- stuck: the rows that are stuck, and why (reads)
- fix: ends them, by the same test (writes)
- indexes: whether an index leads to the open rows, and which one would
- sentences: all sentences for a person about what is not certain
- check: what the command does with all of these
"""
