"""The test kit: servers and workers that end with the test."""
