"""What the machine offers: files, processes, threads, memory, devices; and what callers hand over, checked."""
