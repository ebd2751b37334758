"""What is kept: the journal, and what follows it."""
