"""Score any number of images with one exported file: shards, parquet, resumable, no torch.

Needs numpy, Pillow, pyarrow and onnxruntime only. Start reading at :mod:`export.scoring.run`.
"""

from export.scoring.model import ScoringModel, load_model
from export.scoring.run import ScoreSummary, score_images

__all__ = ["ScoreSummary", "ScoringModel", "load_model", "score_images"]
