"""Export checkpoints (ONNX, OpenVINO IR, int8) and compare the engines that run them."""
