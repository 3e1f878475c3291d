"""Exit statuses of the program."""

FAILED = 1
INTERRUPTED = 130
