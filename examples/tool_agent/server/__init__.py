"""A tool-using agent on a server of its own: it answers questions about shops with a price list and a calculator."""
