"""From no label to fifty: how well each way finds the minority, and whether what is promised holds."""
