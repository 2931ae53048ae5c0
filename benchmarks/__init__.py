"""The demo, the benchmarks and the servers they (and the tests) run against."""
