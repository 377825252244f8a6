"""python start.py: a server for messages and results, a worker, and the page on port 8000.

BROKER_URL and RESULT_BACKEND name servers of your own, PORT another port, and WORKER=no starts no
worker.
"""

from pathlib import Path

from jobtastic_ext.demo.serve import backstage

if __name__ == "__main__":
    with backstage("tasks", Path(__file__).parent) as port:
        import uvicorn
        from web import app

        # Streams of events are open while pages are; do not wait for them to end.
        uvicorn.run(app, host="127.0.0.1", port=port, timeout_graceful_shutdown=1)
