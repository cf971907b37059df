"""The HTTP API and the event socket of core4 (spec job-queues §1), as a facade over our services.

Paths below `/core4/api`, the envelope, the words and the permission strings are core4's; accounts, tokens, jobs, events
and the audit trail are the one set that every other surface of this server has. `mount` is imported at the start, all
else with the first request.
"""
