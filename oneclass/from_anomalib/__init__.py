"""Any image model of anomalib as a one-class member: ``anomalib:<name>``.

Anomalib builds and trains the model. What surrounds it is ours, because it must be the same in training and
in the exported graph: resize and normalisation, random states, the source of weights, what is saved, and the
form in which the model is traced.
"""
