"""The model behind gRPC: windows, batches, admission."""
