"""Any image model of anomalib as a one-class member: ``anomalib:<name>``.

Anomalib builds and trains the model; ours are what surrounds it, because that has to hold in training and
in the exported graph alike: resize and normalisation, the random states, where weights come from, what is
saved, and the form in which the model is traced.
"""
