"""Other formats of a checkpoint (ONNX, OpenVINO IR, int8) and proofs that they agree."""
