"""What learning from views does to members: to their ranking, and to how far invisible changes move them."""
