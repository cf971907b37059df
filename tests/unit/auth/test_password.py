"""What may be a password, and how it is hashed."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from argon2 import extract_parameters
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.auth.password import Cost, Passwords, check_name, check_password
from sysadmd.errors import BadRequest
from tests.unit.auth.doubles import CHEAP

cheap = Passwords(CHEAP)


def test_a_hash_is_argon2id_at_the_shipped_cost() -> None:
    parameters = extract_parameters(Passwords().hash("secret"))
    assert (parameters.type.name, parameters.time_cost, parameters.memory_cost) == ("ID", 2, 65536)


def test_the_shipped_cost_is_felt() -> None:
    passwords = Passwords()
    passwords.hash("warm up")
    began = time.perf_counter()
    passwords.hash("secret")
    assert 0.01 < time.perf_counter() - began < 2.0


def test_the_same_password_has_another_hash_each_time() -> None:
    assert cheap.hash("secret") != cheap.hash("secret")


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60))
def test_what_was_hashed_verifies(password: str) -> None:
    assert cheap.verify(cheap.hash(password), password)
    assert not cheap.verify(cheap.hash(password), password + "x")


def test_an_accent_typed_another_way_is_the_same_password() -> None:
    assert cheap.verify(cheap.hash("caf\u00e9"), "cafe\u0301")


def test_case_and_white_space_matter() -> None:
    stored = cheap.hash("Secret ")
    assert not cheap.verify(stored, "secret ")
    assert not cheap.verify(stored, "Secret")


@pytest.mark.parametrize("stored", [None, "", "secret", "$argon2id$v=19$m=8,t=1,p=1$broken", "!", "x" * 1000])
def test_nothing_verifies_against_what_is_no_hash(stored: str | None) -> None:
    assert not cheap.verify(stored, "secret")
    assert not cheap.verify(stored, "")


def test_a_hash_of_another_cost_is_stale() -> None:
    stored = cheap.hash("secret")
    assert not cheap.is_stale(stored)
    assert Passwords(Cost(passes=2, memory=8, lanes=1)).is_stale(stored)


@pytest.mark.parametrize(
    "password, rule", [("", "minLength"), ("a\0b", "pattern"), ("\ud800", "format"), ("x" * 1025, "maxLength")]
)
def test_what_may_not_be_a_password(password: str, rule: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_password(password)
    assert caught.value.rule == rule
    assert password not in str(caught.value) or not password
    assert not cheap.verify(cheap.hash("secret"), password)


def test_one_byte_above_the_limit_is_too_long() -> None:
    assert len(check_password("é" * 512)) == 1024
    with pytest.raises(BadRequest, match="longer than 1024 bytes"):
        check_password("é" * 512 + "x")
    with pytest.raises(BadRequest, match="longer than 8 bytes"):
        Passwords(CHEAP, limit=8).hash("123456789")


@pytest.mark.parametrize("name", ["a", "_x", "Alice", "web-admin", "a.b_c-9", "a" * 32])
def test_good_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a" * 33, "9a", "-a", ".a", "a b", "a/b", "a:b", "é", "a\n", "a\0", "root;"])
def test_bad_name(name: str) -> None:
    with pytest.raises(BadRequest, match="account name"):
        check_name(name)


def test_argon2_is_imported_when_it_is_needed() -> None:
    code = "import sys, sysadmd.auth.accounts, sysadmd.auth.tokens; print('argon2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"
