"""Networks that pull the majority to a centre: Deep SVDD and Deep SAD."""
