"""Commands that try to break the suite with as much time as they are given; what they found is in tests/README.md."""
