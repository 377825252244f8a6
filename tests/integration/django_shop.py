"""Settings of a Django project; the environment says which caches and databases it has."""

import json
import os

SECRET_KEY = "nothing is signed with it"
USE_TZ = True
CACHES = json.loads(os.environ["SHOP_CACHES"])
DATABASES = json.loads(os.environ["SHOP_DATABASES"])
