"""Read-only zpool and zfs queries. Whatever changes a pool is an attempt of the executor."""

from sysadmd.zfs.pool import Dataset, Pool, Snapshot
from sysadmd.zfs.query import Zfs

__all__ = ["Dataset", "Pool", "Snapshot", "Zfs"]
