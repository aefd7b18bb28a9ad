"""What is timed, each with the plain way or a peer beside it in the same run: `python -m benchmarks.NAME`."""
