"""Redis: key names in one module, one Lua file per atomic step."""
