"""Networks, their losses, their training loops and checkpoints. Imports torch, never the backend."""
