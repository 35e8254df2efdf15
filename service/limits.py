"""How much the service takes before it refuses, in one place; each refusal says what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of memory, time and rate.

    Attributes:
        file_bytes: largest image file.
        body_bytes: largest request.
        pixels: largest width × height of an image, by its header; nothing is decoded beyond it.
        files: most files in one request.
        waiting_images: images that may wait for a worker; beyond it requests are refused with 503.
        waiting_bytes: bytes of requests in work, all together; likewise.
        requests: requests in work at a time; likewise.
        connections: open connections; further ones are closed at once.
        batch: most images that a worker scores in one call of the graph.
        image_seconds: time to decode and score a batch, after which its worker is killed.
        head_seconds: time for the head of a request to arrive.
        idle_seconds: longest pause within the body of a request.
        body_seconds: time for the whole body.
        per_second: requests per second that one address may go on making.
        burst: requests that it may make at once.
        wrong_tokens: wrong or missing tokens per minute from one address, before they get 429 without a look.
    """

    file_bytes: int = 32 << 20
    body_bytes: int = 64 << 20
    pixels: int = 50_000_000
    files: int = 64
    waiting_images: int = 256
    waiting_bytes: int = 256 << 20
    requests: int = 128
    connections: int = 512
    batch: int = 8
    image_seconds: float = 30.0
    head_seconds: float = 10.0
    idle_seconds: float = 10.0
    body_seconds: float = 120.0
    per_second: float = 100.0
    burst: float = 400.0
    wrong_tokens: float = 20.0


RETRY_AFTER_S = 1
"""What a refusal by load asks to wait, in seconds."""
