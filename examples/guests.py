#!/usr/bin/env python3
"""Lists the guests of a machine by its channel: `guests.py SOCKET`. docs/channel.md is all that it was written from."""
import os, socket, sys, zlib

def encode(data):  # COBS
    out = b""
    for piece in data.split(b"\0"):
        while len(piece) >= 254:
            out, piece = out + b"\xff" + piece[:254], piece[254:]
        out += bytes([len(piece) + 1]) + piece
    return out

def decode(data):
    out = b""
    while data:
        code, piece, data = data[0], data[1 : data[0]], data[data[0] :]
        out += piece + (b"\0" if code < 255 and data else b"")
    return out

def send(kind, id, payload):
    body = bytes([kind]) + id.to_bytes(2, "little") + payload
    line.sendall(b"\0" + encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0")

def frames():
    data = b""
    while received := line.recv(4096):
        *whole, data = (data + received).split(b"\0")
        for body in map(decode, filter(None, whole)):
            if body[-4:] == zlib.crc32(body[:-4]).to_bytes(4, "little"):
                yield body[0], body[3:-4]

line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(b"\xffSTASIS\xff")
nonce = os.urandom(4)
send(0x01, 0, b"\x01\x01\x00" + nonce + b"guests.py")  # Hello: versions 1 to 1, no events
for kind, payload in frames():
    if kind == 0x81 and payload[1:5] == nonce:  # Welcome
        send(0x02, 1, b"guests --json")
    elif kind == 0x83:  # Rows
        print(payload.decode(), end="")
    elif kind == 0x85:  # Done
        sys.exit(payload[1:].decode() if payload[0] else 0)
