"""`python -m tunesmith.training.export`: a trained model in the form that other programs load.

`merged`: base and adapter added up in float32, saved in the type that the base has on disk, with its config, tokenizer, chat template and
generation config: a folder that plain transformers, vLLM or SGLang load. `gguf`: the same model as one GGUF file, and a Modelfile for
Ollama (`gguf_file.py`). What is written appears under its name only once it is whole. On success one line of JSON on stdout; on failure one
line on stderr and exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from tunesmith.errors import InvalidArgument, NotFound, TunesmithError
from tunesmith.schemas.model_exports import CONVERTED, QUANTIZATIONS
from tunesmith.training.gguf_file import write_gguf
from tunesmith.training.output import save_model
from tunesmith.training.publish import temporary_folder


def export(
    base: Path,
    adapter: Path | None,
    output: Path,
    form: str,
    *,
    quantization: str = QUANTIZATIONS[0],
    name: str = "model",
) -> list[Path]:
    """Write a model into the new folder `output`, whole or not at all; returns its files, sorted.

    Args:
        base: folder of the base model, or of a full model.
        adapter: folder of the PEFT adapter that sits on it; None: the base as it is.
        output: must not exist, or be empty.
        form: one of `CONVERTED`.
        quantization: of a GGUF file, one of `QUANTIZATIONS`.
        name: what a GGUF file calls the model.

    Raises InvalidArgument or NotFound when one of the folders cannot be used, FailedPrecondition when the architecture or tokenizer has no
    GGUF form here.
    """
    if output.exists() and any(output.iterdir()):
        raise InvalidArgument(f"{output} is not empty; give another folder, or empty it first.")
    model = merged_model(base, adapter)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_folder(output)
    try:
        if form == "merged":
            save_model(temporary, base, model)
        else:
            write_gguf(temporary, base, model, quantization, name)
        _open_as_usual(temporary)
        shutil.rmtree(output, ignore_errors=True)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(path for path in output.iterdir() if path.is_file())


def _open_as_usual(folder: Path) -> None:
    """Give files the usual mode: safetensors writes its own for the owner alone, which a server under another user could not read."""
    umask = os.umask(0o077)
    os.umask(umask)
    for path in folder.iterdir():
        path.chmod(0o666 & ~umask)


def merged_model(base: Path, adapter: Path | None) -> PreTrainedModel:
    """Base and adapter as one model in float32 on the CPU. Raises InvalidArgument or NotFound when they do not load, or do not fit."""
    for folder, file in ((base, "config.json"), (adapter, "adapter_config.json")):
        if folder is not None and not (folder / file).is_file():
            raise NotFound(f"There is no {file} in {folder}.")
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
        if adapter is None:
            return model
        with warnings.catch_warnings():
            # peft asks transformers for a property under its old name; nothing here depends on it.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidArgument(f"{adapter or base} cannot be loaded: {error}") from error
    assert isinstance(merged, PreTrainedModel)
    return merged


def main() -> int:
    """Parse arguments and export."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.training.export", description=__doc__)
    parser.add_argument("base", type=Path, help="folder of the base model")
    parser.add_argument("output", type=Path, help="new folder")
    parser.add_argument("--adapter", type=Path, help="folder of a PEFT adapter on it")
    parser.add_argument("--format", choices=CONVERTED, default="merged")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, default=QUANTIZATIONS[0], help="of a GGUF file")
    parser.add_argument("--name", default="model", help="what a GGUF file calls the model")
    given = parser.parse_args()
    disable_progress_bar()
    try:
        files = export(
            given.base, given.adapter, given.output, given.format, quantization=given.quantization, name=given.name
        )
    except (TunesmithError, OSError) as error:
        print(f"export: {error.message if isinstance(error, TunesmithError) else error}", file=sys.stderr)
        return 1
    print(json.dumps({"files": [str(file) for file in files]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
