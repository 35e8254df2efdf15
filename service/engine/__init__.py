"""Worker processes that decode, score and draw: the only place where bytes of strangers become pixels."""
