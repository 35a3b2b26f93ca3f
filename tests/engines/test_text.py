"""Text: joined pieces equal the tokenizer's own decoding, and nothing is shown that would have to be taken back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models
from tunesmith.engines.text import StopScanner, Tokens
from tunesmith.errors import InvalidArgument

from tests.engines.makers import byte_level_tokenizer


def sentence_piece_tokenizer() -> Tokenizer:
    """A vocabulary of pieces with a marker for spaces, and single bytes for what has no piece."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581the", "\u2581caf", "é", "\u2581", "s", "世"]
    tokenizer = Tokenizer(
        models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def tokens_of(tokenizer: Tokenizer, folder: Path) -> Tokens:
    tokenizer.save(str(folder / "tokenizer.json"))
    return Tokens.read(folder)


def pieces_of(tokens: Tokens, ids: list[int]) -> list[str]:
    decoder = tokens.decoder()
    return [*(decoder.feed(token_id) for token_id in ids), decoder.finish()]


def test_random_bytes_and_added_tokens_decode_as_the_tokenizer_decodes_them(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokens = tokens_of(tokenizer, tmp_path)
    rng = random.Random(0)
    for _ in range(300):
        ids = [rng.randrange(263) for _ in range(rng.randrange(1, 40))]  # 260, 261 and 262 have no token
        assert "".join(pieces_of(tokens, ids)) == tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentence_piece_tokenizer])
def test_no_piece_breaks_a_character(make: type, tmp_path: Path) -> None:
    tokenizer = make()
    tokens = tokens_of(tokenizer, tmp_path)
    text = "naïve 世界 🙂 the cafés"
    byte_of = byte_ids(tokenizer)
    ids = [byte_of[byte] for byte in text.encode()]
    pieces = pieces_of(tokens, ids)
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert sum(piece != "" for piece in pieces) == len(text)


def id_of(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


def byte_ids(tokenizer: Tokenizer) -> list[int]:
    if (first := tokenizer.token_to_id("<0x00>")) is not None:
        return [first + byte for byte in range(256)]
    tokens = Tokens(tokenizer, byte_level=True)
    ids = {tokens.bytes_of(token_id): token_id for token_id in range(256)}
    return [ids[bytes([byte])] for byte in range(256)]


def test_pieces_with_space_markers_decode_as_the_tokenizer_decodes_them(tmp_path: Path) -> None:
    tokenizer = sentence_piece_tokenizer()
    tokens = tokens_of(tokenizer, tmp_path)
    rng = random.Random(1)
    for _ in range(200):
        ids = [rng.choice([257, 258, 259, 260, 261, 262, 1 + ord("a")]) for _ in range(rng.randrange(1, 50))]
        assert "".join(pieces_of(tokens, ids)) == tokenizer.decode(ids, skip_special_tokens=False)


def test_bytes_that_never_become_a_character_do_not_wait_for_ever(tmp_path: Path) -> None:
    tokenizer = sentence_piece_tokenizer()
    tokens = tokens_of(tokenizer, tmp_path)
    pieces = pieces_of(tokens, [1 + 0xFF] * 20 + [id_of(tokenizer, "s")])
    assert any(pieces[:8])
    assert "".join(pieces) == "\ufffd" * 20 + "s"


def test_thinking_stays_in_the_text(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokens = tokens_of(tokenizer, tmp_path)
    assert pieces_of(tokens, [id_of(tokenizer, "<think>"), id_of(tokenizer, "à la")]) == ["<think>", "à la", ""]


@pytest.mark.parametrize("content", ["", "{", '{"model": {"type": "Unheard"}}'])
def test_a_broken_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InvalidArgument, match="tokenizer.json"):
        Tokens.read(tmp_path)


def expected_cut(text: str, stops: list[str]) -> str:
    """What may be shown of a whole text, by definition: stop strings are looked for as the text grows."""
    for end in range(len(text) + 1):
        cuts = [at for stop in stops if (at := text[:end].find(stop)) >= 0]
        if cuts:
            return text[: min(cuts)]
    return text


def test_scanner_against_the_definition() -> None:
    rng = random.Random(2)
    found = 0
    for _ in range(3000):
        stops = ["".join(rng.choices("ab<", k=rng.randrange(1, 5))) for _ in range(rng.randrange(1, 4))]
        text = "".join(rng.choices("ab<c", k=rng.randrange(0, 25)))
        scanner, shown, seen = StopScanner(stops), "", ""
        for character in text:
            seen += character
            shown += scanner.feed(character)
            assert expected_cut(seen, stops).startswith(shown)
            if scanner.found:
                break
            held = seen[len(shown) :]
            assert not held or any(stop.startswith(held) for stop in stops), "held back without need"
        if not scanner.found:
            shown += scanner.finish()
        assert shown == expected_cut(text, stops)
        found += scanner.found
    assert 500 < found < 2900


def test_scanner_takes_pieces_of_many_characters() -> None:
    scanner = StopScanner(["</answer>", "\n\n"])
    assert scanner.feed("so <answer>4</ans") == "so <answer>4"
    assert scanner.feed("wer> and more") == ""
    assert scanner.found
    assert scanner.feed("ignored") == ""


def test_without_stop_strings_nothing_is_held() -> None:
    scanner = StopScanner([])
    assert scanner.feed("<") == "<"
    assert scanner.finish() == ""
