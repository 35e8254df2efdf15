"""DICOM: window, inversion and refusals; what needs pydicom is skipped where it is not installed."""

import io
import sys

import numpy as np
import pytest

from contracts.errors import ImageError
from imagedata.decoding.decode import DecodeSettings, decode_at_stored_size, decode_bytes
from imagedata.decoding.dicom import is_dicom
from imagedata.decoding.formats import IMAGE_SUFFIXES


def dicom(pixels: np.ndarray, photometric: str = "MONOCHROME2", **tags: object) -> bytes:
    """A small uncompressed DICOM file of unsigned 16-bit values, 12 of them stored."""
    pydicom = pytest.importorskip(
        "pydicom", reason="pydicom is not installed (extra: medical)", minversion="3.0"
    )
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


RAMP = np.tile(np.linspace(0, 4095, 16).astype(np.uint16), (16, 1))


def grey(data: bytes) -> np.ndarray:
    rgb = np.asarray(decode_at_stored_size(data, None))
    assert (rgb == rgb[:, :, :1]).all()
    return rgb[:, :, 0].astype(int)


def test_what_dicom_is():
    assert is_dicom(bytes(128) + b"DICM")
    assert not is_dicom(b"\x89PNG" + bytes(200))
    assert ".dcm" in IMAGE_SUFFIXES


def test_without_pydicom_the_reason_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        ImageError, match=r"pydicom 3 is not installed\. Give: pip install 'outnumbered\[medical\]'"
    ):
        decode_bytes(bytes(128) + b"DICM" + bytes(99), DecodeSettings(32))


def test_without_a_window_the_extremes_are_black_and_white():
    assert grey(dicom(RAMP))[0].tolist() == np.rint(np.linspace(0, 255, 16)).astype(int).tolist()


def test_monochrome1_is_inverted():
    assert (grey(dicom(RAMP, "MONOCHROME1")) == 255 - grey(dicom(RAMP))).all()


@pytest.mark.parametrize("slope", [1, 2])
def test_window_by_the_formula_of_the_standard(slope):
    centre, width = 1500.0, 801.0
    data = dicom(RAMP, WindowCenter=centre, WindowWidth=width, RescaleSlope=slope, RescaleIntercept=-100)
    values = RAMP[0].astype(float) * slope - 100
    # PS3.3, C.11.2.1.2.1, with 0…255 as the range of the output.
    expected = np.clip(((values - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)
    assert np.abs(grey(data)[0] - expected).max() <= 1


def test_first_of_several_windows():
    one = dicom(RAMP, WindowCenter=1000, WindowWidth=500)
    assert (grey(dicom(RAMP, WindowCenter=[1000, 3000], WindowWidth=[500, 100])) == grey(one)).all()


def test_cut_off_and_hostile_files_are_refused():
    data = dicom(RAMP)
    for keep in (132, 200, 300, len(data) - 200, len(data) - 1):
        with pytest.raises(ImageError):
            decode_bytes(data[:keep], DecodeSettings(32))
    huge = dicom(RAMP, Rows=60000, Columns=60000)
    with pytest.raises(ImageError, match="header claims 60000x60000"):
        decode_bytes(huge, DecodeSettings(32))


def test_file_without_an_image():
    data = dicom(RAMP)
    start = data.index(b"\xe0\x7f\x10\x00")  # tag 7FE0,0010
    with pytest.raises(ImageError, match="without an image"):
        decode_bytes(data[:start], DecodeSettings(32))
