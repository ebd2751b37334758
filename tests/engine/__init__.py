"""The whole engine against oracles, against itself in other schedules, and in plain Python."""
