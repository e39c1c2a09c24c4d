"""The S3 dialect as pure functions and state machines: bytes in, values out; no I/O, no asyncio."""
