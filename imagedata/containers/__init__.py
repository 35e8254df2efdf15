"""Images within larger files: members of tar and zip archives, rows of parquet files; nothing is unpacked.

Used by training and by scoring alike, so that both refuse the same files. Needs neither torch nor pydantic.
"""
