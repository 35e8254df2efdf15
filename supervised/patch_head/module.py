"""The patch-wise head as a module: what is trained, and what goes into the exported graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from features.tensors import BackboneFeatures
from supervised.labels import score_columns
from supervised.patch_head.settings import PatchHeadSettings

# Inside the logarithm of a distance; a patch that is in the bank has distance 0.
_LEAST_DISTANCE = 1e-3


class PatchHeadModule(nn.Module):
    """Patches to image scores and a map.

    All networks are one: their hidden layers lie side by side, and a mask keeps each output to its own.

    Args:
        settings: widths, the number of networks, and the share of patches that count.
        n_channels: C of the patch features.
        n_bank: B patches in the bank.
        n_classes: K.
    """

    mean: Tensor
    factor: Tensor
    bank: Tensor
    temperature: Tensor
    correction: Tensor
    own: Tensor

    def __init__(self, settings: PatchHeadSettings, n_channels: int, n_bank: int, n_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.n_classes = n_classes
        # Two classes need one logit: the evidence for the minority, wherever it is.
        self.n_outputs = 1 if n_classes == 2 else n_classes
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("factor", torch.ones(n_channels))
        self.register_buffer("bank", torch.zeros(n_bank, n_channels))
        self.register_buffer("temperature", torch.ones(()))
        # Brings the logits back to the training rows' class shares; see supervised.objective.PriorLedger.
        self.register_buffer("correction", torch.zeros(n_classes))
        width, m = settings.hidden, settings.networks
        self.first = nn.Linear(2 * n_channels + 1, m * width)
        self.second = nn.Linear(m * width, m * self.n_outputs)
        own = torch.kron(torch.eye(m), torch.ones(self.n_outputs, width))
        self.register_buffer("own", own, persistent=False)
        # PyTorch's bound is for all hidden units; each output sees those of its own network.
        nn.init.uniform_(self.second.weight, -(width**-0.5), width**-0.5)

    def standardised(self, patches: Tensor) -> Tensor:
        """``[N, C, g, g]`` patch features → ``[N, P, C]`` standardised."""
        return (patches.flatten(start_dim=2).transpose(1, 2) - self.mean) * self.factor

    def inputs(self, patches: Tensor, hidden: Tensor | None = None) -> Tensor:
        """``[N, P, 2C + 1]`` what is known of each patch: itself, its residual, and the residual's log norm.

        The residual is the difference from the mean of the normal patches near it, weighted by a softmax over
        the bank: a smooth form of the mean of the few nearest, without a search.

        Args:
            patches: ``[N, C, g, g]`` patch features.
            hidden: ``[N, B]`` bool, the bank patches that do not exist for each image; None for none.
        """
        points = self.standardised(patches)
        # -|x - b|^2 but for |x|^2, which all weights of a patch have in common.
        closeness = 2.0 * (points @ self.bank.T) - self.bank.square().sum(dim=1)
        if hidden is not None:
            closeness = closeness.masked_fill(hidden[:, None], -torch.inf)
        near = torch.softmax(closeness / self.temperature, dim=2) @ self.bank
        residual = points - near
        norm = residual.norm(dim=2, keepdim=True)
        return torch.cat([points, residual, (norm + _LEAST_DISTANCE).log()], dim=2)

    def patch_logits(self, inputs: Tensor) -> Tensor:
        """``[N, P, 2C + 1]`` inputs of patches → ``[N, P, M, n_outputs]`` logits by each of M networks."""
        logits = nn.functional.linear(
            torch.relu(self.first(inputs)), self.second.weight * self.own, self.second.bias
        )
        return logits.reshape(*logits.shape[:2], self.settings.networks, self.n_outputs)

    def chosen_logits(self, inputs: Tensor) -> Tensor:
        """Logits of patches that each network and output has chosen, each by that network and output alone.

        In training hidden units are switched off.

        Args:
            inputs: ``[N, k, M, n_outputs, 2C + 1]`` of the chosen patches.

        Returns:
            ``[N, k, M, n_outputs]``.
        """
        m = self.settings.networks
        into = self.first.weight.reshape(m, -1, inputs.shape[-1])
        hidden = torch.einsum("nkmoc,mhc->nkmoh", inputs, into)
        hidden = torch.relu(hidden + self.first.bias.reshape(m, 1, -1))
        hidden = nn.functional.dropout(hidden, self.settings.dropout, self.training)
        # [M, O, M, H]: of each network's outputs, the weights of that network's hidden units.
        out_of = self.second.weight.reshape(m, self.n_outputs, m, -1).diagonal(dim1=0, dim2=2)
        logits = torch.einsum("nkmoh,ohm->nkmo", hidden, out_of)
        return logits + self.second.bias.reshape(m, self.n_outputs)

    def n_top(self, n_patches: int) -> int:
        """How many patches an image's logit is the mean of."""
        return max(1, round(self.settings.top_share * n_patches))

    def image_logits(self, patch_logits: Tensor) -> Tensor:
        """``[N, P, M, n_outputs]`` → ``[N, M, n_outputs]``: each output's mean over its highest patches."""
        return patch_logits.topk(self.n_top(patch_logits.shape[1]), dim=1).values.mean(dim=1)

    def forward(self, features: BackboneFeatures) -> tuple[Tensor, Tensor]:
        """Score columns, and the map ``[N, g, g]`` of the minority's logits, both means over networks."""
        of_patches = self.patch_logits(self.inputs(features.patches))
        logits = self.image_logits(of_patches).mean(dim=1)
        of_patches = of_patches.mean(dim=2)
        if self.n_classes == 2:
            columns = torch.cat([torch.zeros_like(logits), logits], dim=1)
            minority = of_patches[..., 0]
        else:
            columns = logits
            minority = score_columns(of_patches.flatten(end_dim=1)).reshape(of_patches.shape)[..., -1]
        patch_map = minority.reshape(features.patches[:, 0].shape)
        return score_columns(columns + self.correction), patch_map
