"""``EXECUTOR=ray``: large passes over the pool are computed by Ray, on as many machines as its cluster has."""
