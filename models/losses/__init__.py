"""What networks are trained on: losses and objectives, one subject a file."""
