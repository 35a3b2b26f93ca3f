"""The local UI (`ep logs`): a small web server over the results store, for this machine only."""
