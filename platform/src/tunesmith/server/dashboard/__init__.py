"""The pages: one web app, built from `web/` into `bundle/`, and who may look without a key."""
