"""Settings of a Django project; the environment says which apps, caches and databases it has."""

import json
import os

SECRET_KEY = "nothing is signed with it"
USE_TZ = True
INSTALLED_APPS = json.loads(os.environ.get("SHOP_APPS", "[]"))
CACHES = json.loads(os.environ["SHOP_CACHES"])
DATABASES = json.loads(os.environ["SHOP_DATABASES"])
