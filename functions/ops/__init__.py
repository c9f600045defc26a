"""For people at a keyboard: commands, local servers, documentation. Never deployed."""
