"""A package, so that `python -m tests.tools.break_runs` works from the project's folder."""
