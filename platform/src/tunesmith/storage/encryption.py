"""Secrets at rest: AES-256-GCM. The associated data binds a ciphertext to its owner, so that it cannot be moved to another row."""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tunesmith.errors import Internal

_NONCE_BYTES = 12


def encrypt(master: bytes, plaintext: str, associated: str) -> bytes:
    """Random nonce + ciphertext + tag."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(master).encrypt(nonce, plaintext.encode(), associated.encode())


def decrypt(master: bytes, sealed: bytes, associated: str) -> str:
    """The plaintext. Raises Internal when key, associated data or bytes are not those it was sealed with."""
    try:
        return AESGCM(master).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated.encode()).decode()
    except InvalidTag as error:
        raise Internal(
            "A stored secret cannot be decrypted: keys/master.key is not the one it was stored with, or the database was changed. "
            "Restore the key file, or set the secret again."
        ) from error
