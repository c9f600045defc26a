"""dev: everything here on one port, with the page."""
