"""kill -9 anywhere: jobs whose processes are killed at random instants and at exact places, and what must hold afterwards."""
