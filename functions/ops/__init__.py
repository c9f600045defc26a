"""For people at a keyboard: the CLI, the local server, the page, an embedded PostgreSQL. Never deployed."""
