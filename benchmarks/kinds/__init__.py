"""What models are worth on kinds of the minority that they never saw, and what the guard against it costs."""
