"""Makes the SQL of a table, and puts it into a database."""
