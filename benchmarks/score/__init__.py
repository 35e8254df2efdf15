"""Images per second of exported files: graph alone, folder to parquet, other ways, very many images."""
