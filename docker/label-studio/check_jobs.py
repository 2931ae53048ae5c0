"""Exit code 0 if a job worker of this machine is at work, as Redis knows it (docker-compose.scale.yml)."""

import os
import socket
import sys

from redis import Redis
from rq import Worker

workers = Worker.all(connection=Redis.from_url(os.environ["LABEL_STUDIO_REDIS_URL"]))
sys.exit(not any(worker.hostname == socket.gethostname() for worker in workers))
