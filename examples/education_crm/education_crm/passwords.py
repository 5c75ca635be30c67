"""Passwords, kept so that nobody who reads the table can use them."""

import base64
import hashlib
import hmac
import secrets
from typing import Final

COST: Final = 2**14
BLOCK_SIZE: Final = 8
PARALLEL: Final = 1


def hash_password(password: str, *, cost: int = COST) -> str:
    """A salted scrypt hash that carries its own parameters."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, cost, BLOCK_SIZE, PARALLEL)
    return f"scrypt${cost}${BLOCK_SIZE}${PARALLEL}${_text(salt)}${_text(digest)}"


def verify_password(password: str, stored: str) -> bool:
    """Whether a password is the one that was hashed; takes as long whether or not it is."""
    _, cost, block_size, parallel, salt, digest = stored.split("$")
    again = _scrypt(password, _bytes(salt), int(cost), int(block_size), int(parallel))
    return hmac.compare_digest(again, _bytes(digest))


def _scrypt(password: str, salt: bytes, cost: int, block_size: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, n=cost, r=block_size, p=parallel, dklen=32
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
