"""File jobs as the clients of pdm.workqueue know them: jobs with numbers, elements, attempts, and their words.

::

    request.py   the body of a request for a job -> what is enqueued; pure
    shape.py     jobs, steps and attempts -> the objects of the clients; pure
    reading.py   what the objects need besides, in few statements for many jobs
    output.py    what an attempt wrote, as much of it as an answer takes
    waiting.py   wakes those who wait for a job, by its events
    service.py   all of it together: `Workqueue`, which HTTP and the other listeners are facades of
"""
