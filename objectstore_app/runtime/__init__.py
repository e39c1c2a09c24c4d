"""Processes, event loop, HTTP server, signals, logging, metrics, health, drain."""
