"""What the names of all metrics begin with."""

PREFIX = "active_learning_"
