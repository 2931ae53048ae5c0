"""Label Studio's settings, with Redis, for several processes of it (docker-compose.scale.yml).

Label Studio's community edition has the code for Redis, and its settings leave it off; no variable turns it on. Here it
is on: what need not be awaited (webhooks, recounts, imports from storages) is done by the job workers, and all
processes share one cache. `LABEL_STUDIO_REDIS_URL` says where Redis is. Label Studio reads this file if
`DJANGO_SETTINGS_MODULE` names it.
"""

import os

# Label Studio's settings ask for themselves while they are read. What they ask for is in these, which do not.
from core.settings.base import *  # noqa: F403
from core.settings.label_studio import *  # noqa: F403

_REDIS_URL = os.environ["LABEL_STUDIO_REDIS_URL"]
REDIS_ENABLED = True
RQ_QUEUES = {name: {"URL": _REDIS_URL, "DEFAULT_TIMEOUT": 180} for name in ("critical", "high", "default", "low")}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": _REDIS_URL}}
