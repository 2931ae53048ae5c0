"""Networks, their losses, their training loops and their checkpoints. Imports torch and numpy, never the backend."""
