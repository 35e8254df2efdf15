"""How good a set of probabilities is, how sure we are of it, and what beat what.

This room imports contracts only. Every metric takes ``labels`` (``[N]`` class indices, minority
last) and ``p`` (``[N]`` minority probabilities, or ``[N, K]`` for K classes), so nothing here knows
which model the probabilities came from.
"""
