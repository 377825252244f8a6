"""The caller's path: what `apply_async` of a policy task does."""
