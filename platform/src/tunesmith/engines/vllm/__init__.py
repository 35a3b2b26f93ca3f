"""vLLM behind the Engine API: a process of ours without torch translates, vLLM computes in an environment of its own.

`python -m tunesmith.engines.vllm --model FOLDER --name BASE --port N --key-file F --vllm-python PYTHON` starts
`PYTHON -m vllm.entrypoints.openai.api_server` as a child, reached through a socket in a folder that only this user may enter.

| file | what |
|---|---|
| `environment.py` | does that Python have a vLLM, which one, for which device |
| `server.py` | the child: its arguments, its start, what to say when it ends |
| `client.py` | its HTTP: sampled tokens, prompt log-probabilities, LoRA adapters |
| `candidate.py` | sampled tokens to events: text, stop strings, both log-probabilities |
| `adapters.py` | a LoRA folder checked against the base model and copied, so that what was hashed is what is served |
| `engine.py` | all of it as an `Engine` |
| `plugin.py` | runs inside vLLM: log-probabilities at the sampling temperature; ends its processes with their parent |
"""
