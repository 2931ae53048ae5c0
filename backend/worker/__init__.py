"""The worker process: leases a due project, compares with Label Studio, runs cycles and publishes."""
