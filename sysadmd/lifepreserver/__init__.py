"""Snapshots and replication by lpreserver: its log files become events of the topic `life_preserver`."""

from sysadmd.lifepreserver.source import LifePreserver

__all__ = ["LifePreserver"]
