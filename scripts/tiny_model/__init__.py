"""How the bundled tiny model is made: problems, tokenizer, pre-training."""
