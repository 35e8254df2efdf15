"""Images within larger files: members of tar archives and rows of parquet files, read without unpacking.

Used by training and by scoring alike, so that both refuse the same files. Needs neither torch nor pydantic.
"""
