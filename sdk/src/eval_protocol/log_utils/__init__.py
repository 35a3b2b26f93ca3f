"""Public import path of what agent servers log with; see `eval_protocol.tracing`."""
