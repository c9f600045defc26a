"""One suite that every store has to pass, and what is special to each."""
