"""What people are told of a project, wherever they read it: in ``status``, on the owner's page, in ``/metrics``."""
