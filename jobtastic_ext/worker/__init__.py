"""The worker's path: begin, then run, follow or reuse."""
