"""The API as data: schema files, compiled validators, and the OpenRPC and OpenAPI documents made of them."""

from sysadmd.schema.loader import load_methods
from sysadmd.schema.method import ErrorCase, Example, Method
from sysadmd.schema.validator import Validator

__all__ = ["ErrorCase", "Example", "Method", "Validator", "load_methods"]
