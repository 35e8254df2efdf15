"""Images on disk: catalogue of data sets, manifest, decoding, leak-safe folds."""
