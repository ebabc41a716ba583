"""Routing: sends a line to the receivers of its severity.

Usage: emit_log_direct.py warning The disk is nearly full
"""

import sys

from connection import connect

severity = sys.argv[1] if len(sys.argv) > 1 else "info"
line = " ".join(sys.argv[2:]) or "Hello World!"
connection = connect()
channel = connection.channel()
channel.exchange_declare("example.direct_logs", "direct", durable=True)
channel.basic_publish("example.direct_logs", severity, line.encode())
print(f"Sent {severity}: {line}")
connection.close()
