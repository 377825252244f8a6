"""python start.py: tables, a worker, and the page on port 8000, with RabbitMQ and PostgreSQL.

There is no Redis.  It needs

    pip install 'jobtastic_ext[sql]' django django-celery-results
    createuser --pwprompt reports
    createdb --owner=reports reports

and that user's password in PGPASSWORD.  BROKER_URL names the RabbitMQ, and PGHOST, PGPORT,
PGDATABASE and PGUSER the PostgreSQL, if they are not on this machine or are called otherwise; PORT
another port, and WORKER=no starts no worker.
"""

import os
from pathlib import Path

from jobtastic_ext.demo.serve import backstage

if __name__ == "__main__":
    os.environ.setdefault("BROKER_URL", "amqp://guest:guest@localhost//")
    os.environ["RESULT_BACKEND"] = "django-db"  # the `celery` command reads it, too
    os.chdir(Path(__file__).parent)
    from manage import main

    main(["manage.py", "migrate", "--verbosity", "0"])
    with backstage("reports", Path(__file__).parent) as port:
        main(["manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"])
