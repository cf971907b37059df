"""The one job model: job, step, attempt; pure transitions, and table functions over a connection."""
