"""What several annotators say of the same images: how far they agree, what to take for right, and what to ask again.
Needs no torch."""
