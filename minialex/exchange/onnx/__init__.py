"""ONNX: graphs of chain form in (`file`, `chain`, `operators`), networks out (`graph`)."""
