"""Real servers for the tests, each started on loopback and stopped with the process that started it."""
