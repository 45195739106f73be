"""What is measured in a fresh interpreter, by subject. `visit.py` has the list."""
