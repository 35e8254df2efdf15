"""How data sets lie on disk: class folders, lists, packs and shards."""
