"""Where bytes lie: segments on a local directory or in memory."""
