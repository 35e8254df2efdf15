"""Synthetic minority rows: SMOTE and ADASYN on backbone features, or on codes that are decoded to images.

Rows are generated, the classifier is trained on them, and only the classifier is kept. No autoencoder is part
of a member's module, so none is in the exported graph.
"""
