#!/usr/bin/env python3
"""Lists the guests of a machine by its channel: `guests.py SOCKET`. docs/channel.md is all that it was written from."""
import os, socket, sys, zlib

def send(kind, id, payload):  # All frames of this program are short: no piece has 254 bytes without a zero.
    body = bytes([kind, id, 0]) + payload
    body += zlib.crc32(body).to_bytes(4, "little")
    line.sendall(b"\0" + b"".join(bytes([len(piece) + 1]) + piece for piece in body.split(b"\0")) + b"\0")

def decode(data):  # COBS
    out = b""
    while data:
        code, piece, data = data[0], data[1 : data[0]], data[data[0] :]
        out += piece + (b"\0" if code < 255 and data else b"")
    return out

line, data, nonce = socket.socket(socket.AF_UNIX), b"", os.urandom(4)
line.connect(sys.argv[1])
line.sendall(b"\xffSTASIS\xff")
send(0x01, 0, b"\x01\x01\x00" + nonce + b"guests.py")  # Hello: versions 1 to 1, no events
while received := line.recv(4096):
    *frames, data = (data + received).split(b"\0")
    for body in filter(None, map(decode, frames)):
        if zlib.crc32(body[:-4]).to_bytes(4, "little") != body[-4:]:
            continue
        if body[0] == 0x81 and body[4:8] == nonce:  # Welcome
            send(0x02, 1, b"guests --json")
        elif body[0] == 0x83:  # Rows
            print(body[3:-4].decode(), end="")
        elif body[0] == 0x85:  # Done
            sys.exit(body[4:-4].decode() if body[3] else 0)
