"""A backbone in int8 from the start against float32."""
