"""ONNX: reads chains of layers (`file`, `chain`, `operators`, `graph`) and writes networks."""
