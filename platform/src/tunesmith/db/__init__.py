"""SQL: tables, sessions, one query module per noun, migrations. Only server, gateway and jobs open it."""
