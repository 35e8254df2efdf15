"""Maps of the evidence for the pictures of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from contracts.member import ExplainingMember, Member
from contracts.rows import FloatArray, ImageArray
from imagedata.manifest_row import ManifestRow
from workflow.run.copies.views import views_to_score
from workflow.run.features import BackboneWithStore, load_backbones
from workflow.run.fits import FINAL
from workflow.run.state import Run
from workflow.settings.registry import build_member


def maps_of(run: Run, rows: Sequence[ManifestRow], pixels: ImageArray) -> tuple[FloatArray | None, str]:
    """``[n, h, w]`` maps of images of a run, and where they come from.

    Test images are mapped by the exported model where it is of this run, else by a member. A bank holds
    training images themselves, and they would lie at distance 0 from it: they are mapped by a member that
    can leave each image's own part out.

    Args:
        run: trained.
        rows: all of them test images, or all training images.
        pixels: ``[n, S, S, 3]`` of the same.

    Returns:
        None and an empty text where no member has such a map.
    """
    if rows[0].split == "test" and (from_file := _maps_of_model(run, pixels)) is not None:
        return from_file, "the anomaly map of model.onnx"
    maps, origin = _maps_of_member(run, rows) if rows[0].split == "test" else _maps_without_own(run, rows)
    region, fit = run.config.region, run.config.recipe.fit
    return (maps if maps is None or region is None else region.within(maps, fit)), origin


def _maps_of_model(run: Run, pixels: ImageArray) -> FloatArray | None:
    """Maps by ``model.onnx``; None where there is none, it is of another ensemble, or it has no map."""
    path = run.exported
    if path is None:
        return None
    from export.scoring.model import load_model

    anomaly_map = load_model(path).run(pixels, with_maps=True).anomaly_map
    return None if anomaly_map is None else np.asarray(anomaly_map, dtype=np.float32)


def _maps_of_member(run: Run, rows: Sequence[ManifestRow]) -> tuple[FloatArray | None, str]:
    """Maps by the first member whose fitted module gives one."""
    from features.apply import maps_as_seen

    for name, member, backbone in _final_members(run):
        _fill(run, backbone, rows)
        selected = backbone.rows(run.data, list(rows), run.config.decode)
        found = maps_as_seen(member, selected, run.config.recipe.views_at_scoring)
        if found is not None:
            return found, name
    return None, ""


def _maps_without_own(run: Run, rows: Sequence[ManifestRow]) -> tuple[FloatArray | None, str]:
    """Maps by the first member that can map an image as if it had not learned from it."""
    from features.apply import maps_as_seen

    for name, member, backbone in _final_members(run):
        if isinstance(member, ExplainingMember):
            _fill(run, backbone, rows)
            selected = backbone.rows(run.data, list(rows), run.config.decode)
            views = run.config.recipe.views_at_scoring
            found = maps_as_seen(member, selected, views, member.maps_without_own)
            return found, f"{name}, from which each image's own part is left out"
    return None, ""


def _fill(run: Run, backbone: BackboneWithStore, rows: Sequence[ManifestRow]) -> None:
    """Compute features that are missing, those of mirror images among them where they are seen as well."""
    backbone.fill(run.data, list(rows), run.config.decode, "cpu", views_to_score(run.config, rows))


def _final_members(run: Run) -> Iterator[tuple[str, Member, BackboneWithStore]]:
    """Name, final fit and backbone of each member that is not left out; built when asked for."""
    for fit, result in run.results.items():
        plan = fit.member
        if fit.fold == FINAL and plan.name not in run.left_out:
            member = build_member(plan.type, plan.settings, plan.backbone)
            backbone = load_backbones(run.config, {plan.backbone})[plan.backbone]
            yield plan.name, member.restore(result.state, result.state_meta), backbone
