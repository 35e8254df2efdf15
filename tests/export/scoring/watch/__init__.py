"""The watch over what comes in."""
