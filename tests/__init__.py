"""The tests. A package, so that no stray `tests` of an installed distribution is taken for it."""
