"""Inference processes behind the Engine API: token ids in, token ids and log-probabilities out.

`python -m tunesmith.engines --model FOLDER --name BASE --port N --key-file F` serves one base model and its LoRA adapters
(`docs/reference/seams.md`). The room holds torch, so the control plane starts it as a process and never imports it.
"""
