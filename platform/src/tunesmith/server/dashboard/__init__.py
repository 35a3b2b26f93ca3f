"""Plain read-only pages that answer the links which clients print: no script, no key on this machine, nothing to click but links."""
