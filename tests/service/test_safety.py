"""Each line of "safe by default", attacked."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import struct
import time
import zipfile
import zlib

import pytest

from service.limits import Limits
from tests.conftest import run_command
from tests.hostile import encode, noise, png_bomb, png_chunk
from tests.hostile_corpus import HOSTILE_NAMES
from tests.service.serving import Server, pictures

TOKEN = "x" * 43


def cookie_of(server: Server) -> str:
    answer = server.ask("GET", f"/?token={server.token}", token=None)
    assert answer.status == 303
    return answer.headers["set-cookie"]


def listing(server: Server) -> list[str]:
    return sorted(str(path) for path in server.store.parent.rglob("*") if "answers.sqlite" not in path.name)


# ---- who asks


@pytest.mark.parametrize(
    "path", ["/", "/images", "/queue", "/answers", "/metrics", "/openapi.json", "/nothing"]
)
def test_nothing_without_a_token(server, path):
    answer = server.ask("GET", path, token=None)
    assert answer.status in (401, 429)
    assert b"cell" not in answer.body


def test_health_says_nothing_else(server):
    assert server.ask("GET", "/health", token=None).json == {"status": "ok"}


def test_the_token_in_the_first_address_becomes_a_cookie(server):
    cookie = cookie_of(server)
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert server.token not in cookie
    page = server.ask("GET", "/", token=None, Cookie=cookie.split(";")[0])
    assert page.status == 200
    assert server.token.encode() not in page.body


@pytest.mark.parametrize(
    "cookie", ["outnumbered-{port}=", "outnumbered-{port}={token}", "outnumbered-{port}=ffff", "=;;="]
)
def test_another_cookie_is_none(server, cookie):
    given = cookie.format(port=server.port, token=server.token)
    assert server.ask("GET", "/", token=None, Cookie=given).status in (401, 429)


def test_guessing_a_token_ends_in_429_and_harms_nobody_else(triage_model, tmp_path):
    server = Server(triage_model, tmp_path / "store")
    try:
        answers = [server.ask("GET", "/queue", token=f"{TOKEN[:-3]}{n:03}") for n in range(40)]
        assert {answer.status for answer in answers} == {401, 429}
        assert answers[-1].headers["retry-after"] == "60"
        assert answers[0].headers["www-authenticate"] == "Bearer"
        assert server.ask("GET", "/queue").status == 200
    finally:
        server.stop()


@pytest.mark.parametrize(
    "given", ["Basic eDp4", "Bearer", "Bearer ", "bearer ünicode", "Bearer " + "a" * 8000]
)
def test_no_kind_of_authorization_but_the_token(server, given):
    answer = server.ask("GET", "/queue", token=None, Authorization=given.encode("latin-1").decode("latin-1"))
    assert answer.status in (401, 429)


def test_the_token_is_taken_in_the_first_address_only(server):
    assert server.ask("GET", f"/queue?token={server.token}", token=None).status in (401, 429)
    assert server.ask("POST", f"/?token={server.token}", b"", token=None).status in (401, 429)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "127.0.0.1:1",
        "localhost@evil",
        "",
        "[::1",
    ],
)
def test_a_foreign_host_is_refused(server, host):
    sent = f"GET /health HTTP/1.1\r\nHost: {host.format(port=server.port)}\r\nConnection: close\r\n\r\n"
    assert re.match(rb"HTTP/1.1 (421|400) ", server.raw(sent.encode()))


def test_two_hosts_are_refused(server):
    sent = f"GET /health HTTP/1.1\r\nHost: {server.host}\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert re.match(rb"HTTP/1.1 (421|400) ", server.raw(sent.encode()))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_own_names_are_taken(server, name):
    assert server.ask("GET", "/health", Host=f"{name}:{server.port}").status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil"]
)
def test_a_foreign_origin_is_refused_even_with_the_cookie(server, origin):
    cookie = cookie_of(server).split(";")[0]
    for method, path in (("POST", "/answers"), ("GET", "/queue"), ("POST", "/score")):
        answer = server.ask(method, path, b"{}", token=None, Cookie=cookie, Origin=origin)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers


def test_a_cookie_changes_nothing_without_an_origin(server):
    cookie = cookie_of(server).split(";")[0]
    assert server.ask("POST", "/answers", b"{}", token=None, Cookie=cookie).status == 403
    own = server.ask("POST", "/answers", {}, token=None, Cookie=cookie, Origin=f"http://{server.host}")
    assert own.status == 400  # it got through, and is no answer


def test_a_foreign_page_cannot_embed_or_fetch(server):
    cookie = cookie_of(server).split(";")[0]
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    assert server.ask("GET", "/queue", token=None, Cookie=cookie, **headers).status == 403


def test_headers_of_a_page(server):
    headers = server.ask("GET", "/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@pytest.mark.parametrize("path", ["/", "/images"])
def test_no_page_has_inline_scripts_or_styles_or_foreign_addresses(server, path):
    text = server.ask("GET", path).body.decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text)
    assert not re.search(r"(src|href)=\"(?!/|#)", text)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT"])
def test_no_other_methods(server, method):
    sent = f"{method} /queue HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n"
    assert re.match(rb"HTTP/1.1 (405|400|401) ", server.raw(sent.encode()))


# ---- names and paths


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../../etc/passwd", "/static/%2e%2e/%2e%2e/web/app.py", "/static/..%2f..%2fanswers.py",
        "/static//etc/passwd", "/images/..%2f..%2ftoken", "/images/../token", f"/images/{'f' * 63}/card",
        f"/images/{'F' * 64}/card", "/images/%00/draw/picture", f"/images/{'0' * 64}/draw/../../token",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(server, path):
    head = f"Host: {server.host}\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n\r\n"
    got = server.raw(f"GET {path} HTTP/1.1\r\n{head}".encode())
    assert re.match(rb"HTTP/1.1 (400|404) ", got), got[:200]
    assert b"root:" not in got
    assert server.token.encode() not in got


@pytest.mark.parametrize(
    "name", ["../../../../tmp/escaped.png", "/etc/escaped.png", "..\\..\\escaped.png", "a/../../escaped.png"]
)
def test_a_name_with_a_path_in_it_is_only_a_name(server, name):
    answer = server.score((name, pictures(1, 40)[0][1]))
    assert answer.json["images"][0]["status"] == "ok"
    assert not [path for path in listing(server) if "escaped" in path]


def test_an_archive_is_no_image_and_is_not_unpacked(server):
    before = listing(server)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../../../../tmp/escaped.png", pictures(1)[0][1])
    answer = server.score(("images.zip", archive.getvalue()), ("x.png", archive.getvalue()))
    assert [image["status"] for image in answer.json["images"]] == ["failed", "failed"]
    assert listing(server) == before


def test_watched_folders_end_at_their_links(server, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encode(noise(77), "PNG"))
    watched = server.store.parent / "watched"
    (watched / "link.png").symlink_to(secret)
    (watched / "folder").symlink_to(tmp_path)
    (watched / "plain.png").write_bytes(encode(noise(78), "PNG"))
    end = time.monotonic() + 30
    while time.monotonic() < end:
        page = server.ask("GET", "/images").body
        if b"plain.png" in page:
            break
        time.sleep(0.2)
    assert b"plain.png" in page
    assert b"link.png" not in page
    assert b"secret.png" not in page


def test_a_watched_file_that_became_a_link_is_not_shown(server, tmp_path):
    watched = server.store.parent / "watched" / "later.png"
    data = encode(noise(79), "PNG")
    watched.write_bytes(data)
    digest, end = None, time.monotonic() + 30
    while digest is None and time.monotonic() < end:
        found = re.search(
            rb'href="/images/(\w{64})">\s*<img[^>]*>\s*<span class="name">later.png',
            server.ask("GET", "/images").body,
        )
        digest = found[1].decode() if found else None
        time.sleep(0.2)
    assert server.ask("GET", f"/images/{digest}/draw/picture").status == 200
    secret = tmp_path / "secret.png"
    secret.write_bytes(data)
    watched.unlink()
    watched.symlink_to(secret)
    assert server.ask("GET", f"/images/{digest}/draw/picture").status == 409


def test_html_in_names_is_text(server):
    files = [(name, pictures(1, 50 + n)[0][1]) for n, name in enumerate(HOSTILE_NAMES)]
    answer = server.score(*files, camera="<script>alert(1)</script>")
    images = answer.json["images"]
    assert {image["status"] for image in images} == {"ok"}
    answer = {"image": images[0]["image"], "answer": "minority", "kind": "<i>", "who": "<b>Eve"}
    server.ask("POST", "/answers", answer | {"token": "html-in-name"})
    for path in ("/images", *(f"/images/{image['image']}" for image in images)):
        page = server.ask("GET", path)
        assert page.status == 200
        for tag in (b"<img src=x", b"<script>alert", b"<i>", b"<b>Eve", b"\x1b", "\u202e".encode()):
            assert tag not in page.body
    assert b"&lt;b&gt;Eve" in server.ask("GET", f"/images/{images[0]['image']}").body
    assert "<script" not in server.ask("GET", "/metrics").body.decode()


# ---- sizes and times


def test_a_header_of_two_gigapixels_is_refused_by_the_header(server):
    header = struct.pack(">IIBBBBB", 50_000, 40_000, 8, 2, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(100)))
    started = time.monotonic()
    answer = server.score(("huge.png", huge), ("bomb.png", png_bomb()), ("good.png", pictures(1)[0][1]))
    assert [image["status"] for image in answer.json["images"]] == ["failed", "failed", "ok"]
    assert "pixels" in answer.json["images"][0]["error"]
    assert time.monotonic() - started < 10


def test_more_pixels_than_the_service_takes(server):
    header = struct.pack(">IIBBBBB", 8000, 7000, 8, 2, 0, 0, 0)
    wide = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(100)))
    [image] = server.score(("wide.png", wide)).json["images"]
    assert "the limit here is 50,000,000" in image["error"]


def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(server):
    sent = (
        f"POST /score HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Length: {10**12}\r\n\r\n"
    )
    assert server.raw(sent.encode(), 10).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_end_is_cut_off(server):
    head = (
        f"POST /score HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.token}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        sent, chunk = 0, b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        try:
            while sent < 200:
                connection.sendall(chunk)
                sent += 1
        except OSError:
            pass
    assert sent < 200
    assert server.ask("GET", "/health").status == 200


def test_too_many_files_and_too_large_ones(server):
    answer = server.score(*[(f"{n}.png", b"x") for n in range(Limits().files + 1)])
    assert answer.status == 400
    answer = server.score(("large.png", bytes(Limits().file_bytes + 1)))
    assert answer.status == 400
    assert "at most 33,554,432" in answer.json["error"]


@pytest.mark.slow
def test_a_slow_upload_and_a_slow_head_are_timed_out(server):
    limits = Limits()
    head = (
        f"POST /score HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.token}\r\n"
        "Content-Length: 1000\r\n\r\n"
    )
    started = time.monotonic()
    assert server.raw(head.encode() + b"part", 3 * limits.idle_seconds).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started < 2 * limits.idle_seconds
    started = time.monotonic()
    assert server.raw(b"GET /health HTTP/1.1\r\nHo", 3 * limits.head_seconds) == b""
    assert time.monotonic() - started < 2 * limits.head_seconds


def test_many_at_once_from_one_address_get_429(triage_model, tmp_path):
    server = Server(triage_model, tmp_path / "store")
    try:
        sent = f"GET /health HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode() * 800
        sent += f"GET /health HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode()
        got = server.raw(sent, 20)
        assert b"HTTP/1.1 200 " in got
        assert b"HTTP/1.1 429 " in got
        assert b"retry-after: 1" in got
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", b"{"), ("application/json", b"[" * 100_000), ("application/json", b"[]"),
        ("application/json", b'{"images": []}'), ("application/json", b'{"images": [{"data": "\\u00e9"}]}'),
        ("application/json", json.dumps({"images": [{"pixels": "AAAA", "shape": [1, 1, 4]}]}).encode()),
        ("application/json", json.dumps({"images": [{"pixels": "AAAA", "shape": [-1, -1, 3]}]}).encode()),
        ("application/json", b'{"images": [{"data": "AAAAAAAAA"}]}'), ("application/json", b"\xff\xfe"),
        ("multipart/form-data", b"--x--"), ("multipart/form-data; boundary=x", b"--y"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n"), ("text/plain", b"hello"), ("", b""),
    ],
)  # fmt: skip
def test_a_malformed_request_is_a_400_with_a_sentence(server, media_type, body):
    answer = server.ask("POST", "/score", body, Content_Type=media_type)
    assert answer.status == 400, answer.body
    assert answer.json["error"]


# ---- answers


def test_ten_thousand_answers_replayed(triage_model, tmp_path):
    server = Server(triage_model, tmp_path / "store")
    try:
        [image] = server.score(pictures(1)[0]).json["images"]
        body = {"image": image["image"], "answer": "normal", "who": "Eve", "token": "replayed-token"}
        entries, refused = set(), 0
        text = json.dumps(body)
        request = (
            f"POST /answers HTTP/1.1\r\nHost: {server.host}\r\nAuthorization: Bearer {server.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
        ).encode()
        last = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        for _ in range(20):
            got = server.raw(request * 499 + last, 60)
            entries |= set(re.findall(rb'"number":(\d+)', got))
            refused += got.count(b"HTTP/1.1 429 ")
        assert entries == {b"1"}
        time.sleep(2.0)  # until the rate of this address is within its bounds again
        assert len(server.ask("GET", "/answers?history=true").json["answers"]) == 1
        assert not re.search(r'status="500"', server.ask("GET", "/metrics").body.decode())
    finally:
        server.stop()


# ---- the command


def test_other_machines_only_with_a_token_file_and_a_sentence(triage_model, tmp_path):
    done = run_command("serve", triage_model, "--store", tmp_path / "s", "--host", "0.0.0.0", "--port", 0)
    assert done.code == 2
    assert "takes --token-file" in done.said
    weak = tmp_path / "weak"
    weak.write_text("secret")
    done = run_command("serve", triage_model, "--host", "0.0.0.0", "--token-file", weak)
    assert done.code == 2
    assert "at least 16" in done.said
    good = tmp_path / "good"
    good.write_text(TOKEN + "\n")
    server = Server(
        triage_model, tmp_path / "s", "--host", "0.0.0.0", "--token-file", good, "--name", "line.example"
    )
    try:
        assert "not encrypted" in " ".join(server.said)
        assert server.ask("GET", "/queue", token=TOKEN, Host="10.1.2.3").status == 200
        assert server.ask("GET", "/queue", token=TOKEN, Host="line.example").status == 200
        assert server.ask("GET", "/queue", token=TOKEN, Host="evil.example").status == 421
        assert server.ask("GET", "/queue", token=None).status == 401
    finally:
        server.stop()


def test_the_token_of_the_store_is_for_its_owner_and_lasts(server):
    path = server.store / "token"
    assert path.read_text().strip() == server.token
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_no_log_holds_the_token_but_the_first_address(server):
    assert sum(server.token in line for line in server.said) == 1
