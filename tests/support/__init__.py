"""What the tests share: a real broker, its clients, a real Redis server."""
