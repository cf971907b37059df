"""The namespace `workqueue`: transfers of files, and their elements."""
