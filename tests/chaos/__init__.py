"""Real processes, real kills: `python -m tests.chaos --runs N --seed S`."""
