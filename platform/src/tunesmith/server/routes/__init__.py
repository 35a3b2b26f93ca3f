"""One route module per noun: parse, call, answer. Errors are raised, never caught here."""
