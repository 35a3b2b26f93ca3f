"""Public import path of wire types; see `eval_protocol.models`."""
