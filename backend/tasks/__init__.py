"""The kinds of task: everything that differs between them, from the label config to the pre-annotation."""
