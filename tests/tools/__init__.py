"""Commands that try to break the suite for as long as they are told; tests/README.md has their results."""
