"""Synthetic minority rows: SMOTE and ADASYN on backbone features, or on codes that are decoded to images.

Two stages: rows are generated and the classifier is trained on them once, and then only the classifier is
kept. No autoencoder is part of a member's module, so none is in the exported graph.
"""
