"""The worker process: leases projects with work due, compares them with Label Studio, runs cycles and publishes."""
