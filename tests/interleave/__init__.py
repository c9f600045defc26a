"""Every order in which up to three actors can run the SQL, statement by statement, on real sessions
of a real PostgreSQL. `make interleave` runs all, `test_interleave.py` a slice.

    world      a database with an own table and an adopted one, a clock that only we move, and
               triggers that write a journal and can park a statement in the middle of a verb
    session    one actor's connection: runs a statement until it is done, parked, or waits
    casts      who takes part: the actors, their verbs, their crashes, and how the task stands
    explore    plays a cast in every order
    promises   the six invariants, by the actors' answers, the journal and the rows
    mutants    the shipped SQL with one fault each; the promises must tell it"""
