"""Networks, their losses, their training loops and checkpoints. Imports torch, never the backend."""

from collections.abc import Callable

IGNORE = 255
"""In an index mask: no class is known of this pixel."""

ProgressFn = Callable[[str, int, int], None]
"""Called as (phase, done, total) while something runs; may raise to stop it."""
