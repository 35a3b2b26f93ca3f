"""The evaluator host: runs one evaluation as a long-lived process, `python -m eval_protocol.host --entry FILE::FUNC --socket PATH`.

    main process     imports the user's module once and stays single-threaded: it only forks, kills and reaps (forks.py)
      ├─ loop        asyncio: the unix socket, the test's own rollout processor, the retries (serving.py)
      └─ scorers     one row at a time each, with the runner's own scoring code (scorer.py); killed and replaced when they hang

Everything is forked before any thread exists, and dies with the main process, which dies with its own parent. A hang, a crash or an
exception of the evaluator costs one row. stdout and stderr belong to the user's code. Needs Linux.

The wire is newline-delimited JSON over the socket, both ways: `docs/reference/seams.md`, "Evaluator host".
"""
