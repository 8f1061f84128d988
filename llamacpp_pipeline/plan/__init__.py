"""2. What will be done: pure, decided before anything runs."""
