"""Nouns on the wire: what clients send and get, camelCase, one file per resource. No logic beyond the shape of a value."""
