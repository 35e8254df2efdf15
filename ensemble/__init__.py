"""From out-of-fold member scores to one calibrated probability and a decision.

scores → transform → combination (stack or best single) → calibrator → prior shift → threshold.

Everything is fitted on out-of-fold rows, is linear or piecewise linear, is saved as JSON and has a twin in
:mod:`ensemble.module`, the only file here that imports torch. The minority is the last class. A ``logit`` is
a log-odds (``[N]``) or unnormalised log-probabilities (``[N, K]``).
"""
