"""The REST API of pdm.workqueue under `/workqueue/api/v1.0` (spec job-queues §2.3): HTTP over `jobs.workqueue`.

::

    query.py      the query and the body of a request, checked
    endpoints.py  each path and verb: what it needs, what it calls
    openapi.py    the same, described
    facade.py     who calls, what is answered, and how errors read
"""
