"""Commands about exported files."""
