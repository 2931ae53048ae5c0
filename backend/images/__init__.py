"""Where images come from, how they are decoded, and the memory-mapped caches of rows."""
