"""The work: what a run does, and what it would do."""
