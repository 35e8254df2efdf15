"""The watch: what comes in, compared with what the model was trained on.

:mod:`~export.scoring.watch.reference` is what the file keeps of training, :mod:`~export.scoring.watch.batch`
what is counted of a batch while it is scored, :mod:`~export.scoring.watch.share` and
:mod:`~export.scoring.watch.drift` compare the two, and :mod:`~export.scoring.watch.verdict` says it in
sentences. NumPy is all they need.
"""
