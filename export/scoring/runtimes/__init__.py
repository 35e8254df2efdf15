"""What computes: ONNX Runtime, or OpenVINO, and which of them is faster here."""
