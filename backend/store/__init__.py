"""What projects keep in an object store, so that any machine can go on with them: see :mod:`backend.store.mirror`."""
