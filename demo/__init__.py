"""`make demo`: a Label Studio, the backend and a project to label, by you or by an oracle."""
