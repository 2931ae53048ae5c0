"""The web process: requests in, stored predictions out. It holds no model and never trains."""
