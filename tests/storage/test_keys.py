"""The platform's own keys and what they protect."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from tunesmith.errors import Internal
from tunesmith.settings import Settings
from tunesmith.storage.encryption import decrypt, encrypt
from tunesmith.storage.keys import load_keys


def test_keys_are_private_stable_and_different(settings: Settings):
    keys = load_keys(settings)
    assert load_keys(settings) == keys
    assert len({keys.master.hex(), keys.pepper.hex(), keys.internal, keys.engine}) == 4
    folder = settings.data_dir / "keys"
    assert sorted(path.name for path in folder.iterdir()) == ["engine.key", "internal.key", "master.key", "pepper.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert keys.internal not in repr(keys)
    assert keys.master.hex() not in repr(keys)


def test_those_who_start_together_agree_on_the_keys(settings: Settings):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load_keys, [settings] * 16))) == 1


def test_a_damaged_key_is_named(settings: Settings):
    load_keys(settings)
    (settings.data_dir / "keys" / "master.key").write_text("short")
    with pytest.raises(Internal, match=r"master\.key does not hold"):
        load_keys(settings)


def test_a_sealed_secret_opens_only_with_its_key_and_its_owner():
    master = b"m" * 32
    sealed = encrypt(master, "hunter2 ☃", "accounts/a KEY")
    assert b"hunter2" not in sealed
    assert encrypt(master, "hunter2 ☃", "accounts/a KEY") != sealed
    assert decrypt(master, sealed, "accounts/a KEY") == "hunter2 ☃"
    for key, data, owner in [
        (b"x" * 32, sealed, "accounts/a KEY"),
        (master, sealed, "accounts/b KEY"),
        (master, sealed[:-1] + bytes([sealed[-1] ^ 1]), "accounts/a KEY"),
    ]:
        with pytest.raises(Internal, match="cannot be decrypted"):
            decrypt(key, data, owner)
