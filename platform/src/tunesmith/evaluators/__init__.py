"""Uploaded evaluators: unpack, build their environment, and run them as hosts inside a sandbox. Knows nothing of the database."""
