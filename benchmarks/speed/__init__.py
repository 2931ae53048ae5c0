"""The speed table: ratios of two things measured side by side."""
