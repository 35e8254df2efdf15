"""``audit``: training images whose label the cross-fitted models contradict, and what people say of them."""
