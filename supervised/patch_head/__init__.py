"""A head that judges patch by patch; an image's evidence is that of its most suspicious patches."""
