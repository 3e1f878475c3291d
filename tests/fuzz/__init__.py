"""Fuzzing of everything that reads .rdeic files; see `engine`."""
