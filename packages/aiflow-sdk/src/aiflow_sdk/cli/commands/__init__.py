"""One module a command, each with the name that is typed."""
