"""People and their keys: pure logic, no storage; the directory keeps what this package makes."""
