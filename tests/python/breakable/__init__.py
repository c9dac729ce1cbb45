"""A database backend whose server can be restarted: SQLite, with connections that end with that."""

#: Counts restarts; a connection works as long as it is the number of its beginning.
generation = 0


def restart() -> None:
    """Breaks all connections there are; new ones work."""
    global generation
    generation += 1
