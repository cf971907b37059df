"""The namespace `queue`: jobs that run tasks, and what holds for transfers too."""
