"""`/api/v1/jobs`: the jobs of the queue as resources of HTTP."""
