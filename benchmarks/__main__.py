"""``make bench``: every benchmark, one after the other."""

from . import (
    bench_calls,
    bench_estimates,
    bench_harness,
    bench_keys,
    bench_leaks,
    bench_memory,
    bench_never_worse,
    bench_outages,
    bench_progress,
    bench_runs,
    bench_stores,
    bench_web,
)

print("A call at the caller\n")
bench_calls.main()
print("\nA run at the worker\n")
bench_runs.main()
print("\nAn operation on each store\n")
bench_stores.main()
print("\nThe key of a call, in microseconds\n")
bench_keys.main()
print("\nServers that are down\n")
bench_outages.main()
print("\nBeside bare Celery\n")
bench_never_worse.main()
print("\n500 pages that follow one task, on one server process\n")
bench_web.main()
print("\nThe time remaining: how far estimates are off")
bench_estimates.main()
print("\nA report of progress\n")
bench_progress.main()
print("\nThe watch on memory, in microseconds\n")
bench_memory.main()
print("\nLeaks that are found")
bench_leaks.main()
print("\nThe pytest fixture\n")
bench_harness.main()
