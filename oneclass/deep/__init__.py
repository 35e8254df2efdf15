"""Networks that draw the majority to a centre: Deep SVDD and Deep SAD."""
