"""``make bench``: every benchmark, one after the other."""

from . import bench_calls, bench_keys, bench_leaks, bench_memory

print("A call at the caller\n")
bench_calls.main()
print("\nThe key of a call, in microseconds\n")
bench_keys.main()
print("\nThe watch on memory, in microseconds\n")
bench_memory.main()
print("\nLeaks that are found")
bench_leaks.main()
