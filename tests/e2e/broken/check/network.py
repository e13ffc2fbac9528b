import socket
from aiflow_sdk import pipeline

#! network-at-build-time |
socket.create_connection(("127.0.0.1", 9))
