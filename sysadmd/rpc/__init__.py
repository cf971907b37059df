"""Method registry, session and call pipeline: the way of a request."""
