"""Bytes: objects in the data folder, signed upload and download URLs, and the keys of the platform itself."""
