"""Running a formatter over whole datasets: configuration, reading, worker processes, manifest.

In: a configuration file or a formatter and a dataset. Out: a prepared dataset on disk and its report.
Nothing here is imported by the core.
"""
