"""The page of the label audit, on which people answer by keys."""
