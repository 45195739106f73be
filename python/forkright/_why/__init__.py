"""`forkright why`: where an unmodified program's threads spend their time, and what would make it faster."""
