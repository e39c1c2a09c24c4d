"""What a store's machines run on: one module per substrate behind the protocol in `base`."""
