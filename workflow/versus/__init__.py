"""``versus``: two model files on the same images, and what putting the new one in use would change."""
