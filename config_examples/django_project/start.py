"""python start.py: a server for messages and results, a worker, and the page on port 8000.

BROKER_URL and RESULT_BACKEND name servers of your own, PORT another port, and WORKER=no starts no
worker.
"""

from pathlib import Path

from jobtastic_ext.demo.serve import backstage

if __name__ == "__main__":
    with backstage("division", Path(__file__).parent) as port:
        from manage import main

        main(["manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"])
