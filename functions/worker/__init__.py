"""Takes one task and brings it to its end."""
