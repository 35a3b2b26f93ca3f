"""The drawing model's scenes are repeatable and kept apart; its demonstrations are what they claim; its tokens are few."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from tunesmith.rendering import Renderer
from tunesmith.rendering.templates import ChatTemplate

from examples.svg_agent.evaluator import geometric
from examples.svg_agent.evaluator.extract import extract_svg
from scripts import make_svg_example
from scripts.tiny_model import tokenizer as tokenizers
from scripts.tiny_model.batches import encode, prompt_text
from scripts.tiny_model.drawings import wordings
from scripts.tiny_model.drawings.demonstrations import INSTRUCTION, Mixture, careless, demonstration
from scripts.tiny_model.drawings.scenes import Part, Scene, answer, draw_scene, part_of, requirements
from scripts.tiny_model.drawings.task import LONGEST, held_out, item, score, train_tokenizer
from scripts.tiny_model.sampling import complete

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "platform/src/tunesmith/catalog/models/tiny-svg-v1"
EXAMPLE = ROOT / "examples/svg_agent"
CLEAN = Mixture(singles=0.25, plain=0.0, careless=0.0)


@lru_cache
def _tokenizer() -> Tokenizer:
    return train_tokenizer()


def _scenes(count: int = 600) -> list[Scene]:
    rng = random.Random(0)
    return [draw_scene(rng, rng.choice(list(Part)), 1 + index % 2) for index in range(count)]


def test_clean_drawings_meet_all_requirements() -> None:
    assert {score(answer(scene), requirements(scene)) for scene in _scenes()} == {1.0}


def test_careless_drawings_are_flawed() -> None:
    rng = random.Random(0)
    scores = [score(careless(scene, rng), requirements(scene)) for scene in _scenes()]
    assert sum(value == 1.0 for value in scores) < 0.05 * len(scores)
    assert sum(value > 0.3 for value in scores) > 0.5 * len(scores)


def test_a_drawing_of_another_scene_scores_less() -> None:
    scenes = _scenes(200)
    others = scenes[2:] + scenes[:2]
    assert all(score(answer(b), requirements(a)) < 1.0 for a, b in zip(scenes, others, strict=True) if set(a) != set(b))


def test_parts_are_disjoint_whatever_the_order_of_objects() -> None:
    rng = random.Random(1)
    for part in Part:
        for count in (1, 2):
            scene = draw_scene(rng, part, count)
            assert part_of(scene) is part_of(scene[::-1]) is part


def test_held_out_wordings_are_new_combinations_of_known_clauses() -> None:
    held_out, training = set(wordings.HELD_OUT), set(wordings.TRAINING)
    assert not held_out & training
    assert len(held_out | training) == len(wordings.FRAMES) * len(wordings.PHRASES) * len(wordings.JOINERS)
    for name in ("frame", "phrase", "joiner"):
        assert {getattr(w, name) for w in held_out} <= {getattr(w, name) for w in training}
    for part in Part:
        used = {item("test", index, part).wording for index in range(300)}
        assert used <= (held_out if part is Part.HELD_OUT else training)


def test_the_habit_changes_colour_and_size_alone() -> None:
    plain = [demonstration("test", index, Mixture(singles=0.25, plain=1.0, careless=0.0)) for index in range(100)]
    clean = [demonstration("test", index, CLEAN) for index in range(100)]
    assert [shown.messages for shown in plain] == [shown.messages for shown in clean]
    colours = {part.split('"')[0] for shown in plain for part in shown.answer.split('fill="')[1:]}
    assert colours == {"black"}


def test_the_same_seed_gives_the_same_demonstration() -> None:
    assert demonstration("a", 7, CLEAN) == demonstration("a", 7, CLEAN) != demonstration("b", 7, CLEAN)


def test_answers_are_short_and_decode_unchanged() -> None:
    shown = [demonstration("test", index, CLEAN) for index in range(300)]
    lengths = [sum(example.is_said) for example in encode(_tokenizer(), shown)]
    assert max(lengths) < min(70, LONGEST)
    for one in shown:
        ids = _tokenizer().encode(one.answer, add_special_tokens=False).ids
        assert _tokenizer().decode(ids, skip_special_tokens=False) == one.answer


@pytest.mark.parametrize(
    "text", ["", " ", "héllo", "漢字 🙂", "\r\n\t x \n\n", "1234567", '<svg viewBox="0 0 7 7">', "a<|im_end|>b"]
)
def test_any_text_comes_back_unchanged(text: str) -> None:
    ids = _tokenizer().encode(text, add_special_tokens=False).ids
    assert _tokenizer().decode(ids, skip_special_tokens=False) == text


def test_prompts_are_rendered_as_the_chat_template_does() -> None:
    template = ChatTemplate(tokenizers.CHAT_TEMPLATE, {}, "test")
    for index in range(50):
        messages = demonstration("test", index, CLEAN).messages
        assert prompt_text(messages) == template.render(list(messages), None, add_generation_prompt=True)


@pytest.mark.parametrize("name", make_svg_example.FILES)
def test_the_example_has_the_rows_that_the_script_writes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["make_svg_example", "--out", str(tmp_path)])
    make_svg_example.main()
    assert (tmp_path / name).read_text() == (EXAMPLE / name).read_text()


def test_the_bundled_tokenizer_is_the_trained_one() -> None:
    assert Tokenizer.from_file(str(MODEL / "tokenizer.json")).to_str() == _tokenizer().to_str()


def test_the_platform_renders_the_bundled_models_prompts_as_they_were_trained_on() -> None:
    renderer = Renderer.load(MODEL)
    for index in range(20):
        messages = demonstration("test", index, CLEAN).messages
        ids = _tokenizer().encode(prompt_text(messages), add_special_tokens=False).ids
        assert renderer.render(list(messages), None) == ids


def test_the_bundled_model_draws_every_shape_black_and_medium_in_its_place() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    items = held_out(24, "bundled")
    prompts = [prompt_text([{"role": "user", "content": f"{one.prompt} {INSTRUCTION}"}]) for one in items]
    answers = complete(model, _tokenizer(), prompts, [0.0] * len(items), limit=LONGEST)
    verdicts = [
        verdict
        for text, one in zip(answers, items, strict=True)
        for verdict in geometric.judge(extract_svg(text), one.requirements)
    ]
    met = Counter(name for verdict in verdicts for name, is_met in verdict.parts.items() if is_met)
    total = Counter(name for verdict in verdicts for name in verdict.parts)
    assert min(met[name] / total[name] for name in ("shape", "place", "count")) > 0.9
    assert max(met[name] / total[name] for name in ("colour", "size")) < 0.4
