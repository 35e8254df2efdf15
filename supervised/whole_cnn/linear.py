"""A linear head on a frozen CNN at its own image size; with SimCLR before it, linear evaluation."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch

from contracts.member import FitContext
from contracts.rows import ImageRows, real_positions
from supervised.head import HeadCnn
from supervised.labels import require_every_class
from supervised.whole_cnn.last_layer import frozen_features, put_last_linear
from supervised.whole_cnn.tuned import TunedCnn


class LinearCnn(TunedCnn):
    """A CNN member with ``tune: linear``: the network of ``tune: full`` with only its last layer trained.

    Labels reach only that layer; ``simclr`` may pre-train the rest on the training images without labels. No
    rows are set aside, because there is no early stopping.
    """

    def fit(self, rows: ImageRows, context: FitContext) -> Self:
        """Pre-train if asked for, then fit the head on all training rows.

        Raises:
            DataError: a class is missing.
            MemberCollapsedError: pre-training made all images alike.
        """
        real = real_positions(rows)
        require_every_class("cnn with tune=linear", rows.labels[real], rows.n_classes)
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            module = self.initial_module(rows.n_classes, context.seed)
        self.pretrain(module, self._unchanged(rows, real), context)
        pixels = self._unchanged(rows, np.arange(len(rows), dtype=np.int64))
        features = frozen_features(module, pixels, context.device)
        head = HeadCnn(self.settings).fit_features(
            features, rows.labels, rows.n_classes, context, rows.is_copy, groups=rows.groups
        )
        weight, bias = head.raw_module().as_linear()
        put_last_linear(module.classifier, weight, bias)
        module.correction.copy_(head.raw_module().correction)
        of_head = head.state()[1]
        self._ledger, self._chosen = of_head["prior_ledger"], of_head.get("chosen", {})
        self._module = module.eval()
        return self
