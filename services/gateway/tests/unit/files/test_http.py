"""`/v1/files`."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from argosy.retrieval.v1.retrieval_pb2_grpc import add_RetrievalServiceServicer_to_server
from chassis.errors import InvalidRequest
from chassis.tenancy import as_caller
from chassis.testing import a_caller, a_principal
from chassis.testing.grpc import serving
from gateway.files.retrieval_client import MAX_PIECE_BYTES, FilesClient
from gateway.web.pagination import PageRequest

from services.gateway.tests.fakes.gateway import MAX_UPLOAD_BYTES, GatewayFixture, RawRequest, run_loop

BOUNDARY = "boundary"
MULTIPART = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """A part of a form."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A complete form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


PURPOSE = part("purpose", b"assistants")
FILE = part("file", b"hello", "a.txt")


async def one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


@asynccontextmanager
async def as_demo(gateway: GatewayFixture) -> AsyncIterator[FilesClient]:
    """A client of the fake retrieval, called by a tenant."""
    registration = (add_RetrievalServiceServicer_to_server, gateway.retrieval, "argosy.retrieval.v1.RetrievalService")
    async with serving(registration) as channel:
        with as_caller(a_caller(a_principal("ten_demo"))):
            yield FilesClient(channel)


async def upload(client: httpx.AsyncClient, name: str = "a.txt", content: bytes = b"hello") -> str:
    """Store a file and return its id."""
    response = await client.post("/v1/files", files={"file": (name, content)}, data={"purpose": "assistants"})
    assert response.status_code == 200, response.text
    found: str = response.json()["id"]
    return found


async def test_a_file_is_stored_and_shown_in_openais_shape(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    response = await demo.post("/v1/files", files={"file": ("a.txt", b"hello")}, data={"purpose": "assistants"})

    assert response.json() == {
        "id": response.json()["id"],
        "object": "file",
        "bytes": 5,
        "created_at": 1767312000,
        "expires_at": None,
        "filename": "a.txt",
        "purpose": "assistants",
        "status": "processed",
        "status_details": None,
    }
    assert gateway.retrieval.tenants[gateway.tenants["demo"]].contents[response.json()["id"]] == b"hello"


@pytest.mark.parametrize("body", [form(PURPOSE, FILE), form(FILE, PURPOSE), form(PURPOSE, FILE, part("x", b"y"))])
async def test_the_purpose_may_come_before_the_file_or_after_it(
    gateway: GatewayFixture, demo: httpx.AsyncClient, body: bytes
) -> None:
    response = await demo.post("/v1/files", content=body, headers=MULTIPART)

    assert response.status_code == 200
    (file,) = gateway.retrieval.tenants[gateway.tenants["demo"]].files.values()
    assert (file.filename, file.purpose, file.bytes) == ("a.txt", "assistants", 5)


@pytest.mark.parametrize("order", [(PURPOSE, FILE), (FILE, PURPOSE)])
async def test_a_file_is_the_same_however_the_network_splits_it(
    gateway: GatewayFixture, demo: httpx.AsyncClient, order: tuple[bytes, bytes]
) -> None:
    content = bytes(range(256)) + b"\r\n--bound" * 20
    body = form(*(PURPOSE if one is PURPOSE else part("file", content, "a.bin") for one in order))

    async def single_bytes() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])

    response = await demo.post("/v1/files", content=single_bytes(), headers=MULTIPART)

    assert response.status_code == 200
    (stored,) = gateway.retrieval.tenants[gateway.tenants["demo"]].contents.values()
    assert stored == content


async def test_a_file_is_streamed_without_being_held(gateway: GatewayFixture) -> None:
    head = PURPOSE + part("file", b"", "a.txt")[:-2]
    request = RawRequest(gateway, "/v1/files", b"", headers=MULTIPART)
    request.set_body(head, *[b"x" * 100] * 9, f"\r\n--{BOUNDARY}--\r\n".encode(), more=False)
    await request.remaining_body()

    assert len(gateway.retrieval.piece_sizes) >= 9  # as many pieces as the network brought
    assert max(gateway.retrieval.piece_sizes) <= 100


async def test_a_large_piece_is_sent_in_small_ones(gateway: GatewayFixture) -> None:
    content = bytes(range(256)) * (MAX_PIECE_BYTES // 256 * 3)
    async with as_demo(gateway) as files:
        stored = await files.upload("a.bin", "assistants", one_piece(content))
        downloaded = b"".join([piece async for piece in files.download(stored.id)])

    assert downloaded == content
    assert set(gateway.retrieval.piece_sizes) == {MAX_PIECE_BYTES}


async def test_an_error_of_the_content_is_raised_and_nothing_is_stored(gateway: GatewayFixture) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise InvalidRequest("The multipart body is incomplete.")

    async with as_demo(gateway) as files:
        with pytest.raises(InvalidRequest, match="incomplete"):
            await files.upload("a.txt", "assistants", broken())
        assert (await files.list(PageRequest(100), "")).data == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(PURPOSE), "file"),
        (form(FILE), "purpose"),
        (form(FILE, part("purpose", b"gateway domination")), "purpose"),
        (form(part("purpose", b"nothing"), FILE), "purpose"),
        (form(PURPOSE, FILE, FILE), "file"),
        (form(PURPOSE, part("other", b"x", "b.txt")), "other"),
        (form(PURPOSE, part("file", b"x", "")), "file"),
        (form(PURPOSE, part("file", b"x", "../")), "file"),
        (form(PURPOSE, part("file", b"x", "n" * 256)), "file"),
        (form(PURPOSE, part("file", b"x", "a\0.txt")), "file"),
        (form(PURPOSE, part("file", b"x", "a\x1b[2J.txt")), "file"),
        (form(part("note", b"x" * 70_000), FILE), "note"),
        (form(*[part("n", b"")] * 40), None),
        (form(PURPOSE, FILE)[:-6], None),
        (PURPOSE + FILE[:-4], None),
        (b"", "file"),
        (b"nonsense", None),
    ],
)
async def test_an_invalid_form_is_refused_and_nothing_is_stored(
    gateway: GatewayFixture, demo: httpx.AsyncClient, body: bytes, param: str | None
) -> None:
    response = await demo.post("/v1/files", content=body, headers=MULTIPART)

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
    assert response.json()["error"]["param"] == param
    assert not any(data.files for data in gateway.retrieval.tenants.values())


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300, ""]
)
async def test_a_body_that_is_not_a_form_is_refused(demo: httpx.AsyncClient, content_type: str) -> None:
    response = await demo.post("/v1/files", content=b"{}", headers={"content-type": content_type})

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("order", [(PURPOSE, "file"), ("file", PURPOSE)])
async def test_a_file_that_is_too_large_is_refused_and_not_stored(
    gateway: GatewayFixture, demo: httpx.AsyncClient, order: tuple[bytes | str, ...]
) -> None:
    large = part("file", b"x" * (MAX_UPLOAD_BYTES + 1), "a.txt")
    body = form(*(large if isinstance(one, str) else one for one in order))

    response = await demo.post("/v1/files", content=body, headers=MULTIPART)

    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert not any(data.files for data in gateway.retrieval.tenants.values())


async def test_a_path_in_the_name_is_cut_off(demo: httpx.AsyncClient) -> None:
    for name in ("C:\\secret\\a.txt", "/etc/a.txt", "../../a.txt"):
        body = form(PURPOSE, part("file", b"x", name.replace("\\", "\\\\")))
        response = await demo.post("/v1/files", content=body, headers=MULTIPART)
        assert response.json()["filename"] == "a.txt"


async def test_filenames_may_be_in_any_language(demo: httpx.AsyncClient) -> None:
    # As a Mac names its pictures: with a narrow space that cannot be broken.
    for name in ("Screenshot 2026-01-01 at 9.41.00\u202fPM.png", "größe.txt", "図面.pdf"):
        assert (await demo.get(f"/v1/files/{await upload(demo, name)}")).json()["filename"] == name


async def test_bytes_after_the_end_of_a_form_are_not_waited_for(gateway: GatewayFixture) -> None:
    request = RawRequest(gateway, "/v1/files", b"", headers=MULTIPART)
    request.set_body(form(PURPOSE, FILE), b"and so on")

    assert (await request.next_message())["status"] == 200


async def test_a_disconnect_during_an_upload_stores_nothing(gateway: GatewayFixture) -> None:
    request = RawRequest(gateway, "/v1/files", b"", headers=MULTIPART)
    request.set_body(PURPOSE, FILE[:-4])
    request.disconnect()
    async with asyncio.timeout(30):
        await request.task

    assert not any(data.files for data in gateway.retrieval.tenants.values())


async def test_files_are_listed_newest_first_page_by_page(demo: httpx.AsyncClient) -> None:
    ids = sorted([await upload(demo) for _ in range(5)], reverse=True)

    first = (await demo.get("/v1/files", params={"limit": 2})).json()
    assert [file["id"] for file in first["data"]] == ids[:2]
    assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[0], ids[1], True)

    rest = (await demo.get("/v1/files", params={"limit": 10, "after": first["last_id"]})).json()
    assert [file["id"] for file in rest["data"]] == ids[2:]
    assert not rest["has_more"]


async def test_files_are_listed_by_purpose(demo: httpx.AsyncClient) -> None:
    await upload(demo)

    assert len((await demo.get("/v1/files", params={"purpose": "assistants"})).json()["data"]) == 1
    empty = (await demo.get("/v1/files", params={"purpose": "batch"})).json()
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"after": "a b"}, "after"),
        ({"order": "asc"}, "order"),
        ({"order": "up"}, "order"),
        ({"before": "file-1"}, "before"),
    ],
)
async def test_an_unsupported_page_is_refused(
    demo: httpx.AsyncClient, params: dict[str, str | int], param: str
) -> None:
    response = await demo.get("/v1/files", params=params)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert response.json()["error"]["code"] == "invalid_request"


async def test_a_file_is_read_downloaded_and_deleted(demo: httpx.AsyncClient) -> None:
    file_id = await upload(demo, 'résumé "1".txt', b"hello")

    assert (await demo.get(f"/v1/files/{file_id}")).json()["bytes"] == 5
    content = await demo.get(f"/v1/files/{file_id}/content")
    assert content.content == b"hello"
    assert content.headers["content-length"] == "5"
    assert content.headers["x-request-id"].startswith("req_")
    assert "r%C3%A9sum%C3%A9" in content.headers["content-disposition"]

    assert (await demo.delete(f"/v1/files/{file_id}")).json() == {"id": file_id, "object": "file", "deleted": True}
    for response in (await demo.get(f"/v1/files/{file_id}"), await demo.delete(f"/v1/files/{file_id}")):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "file_not_found")


async def test_an_empty_file_is_a_file(demo: httpx.AsyncClient) -> None:
    file_id = await upload(demo, content=b"")

    assert (await demo.get(f"/v1/files/{file_id}/content")).content == b""


async def test_another_tenants_file_is_not_found(demo: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    file_id = await upload(demo)

    for response in (
        await other.get(f"/v1/files/{file_id}"),
        await other.get(f"/v1/files/{file_id}/content"),
        await other.delete(f"/v1/files/{file_id}"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "file_not_found")
    assert (await other.get("/v1/files")).json()["data"] == []


async def test_an_interrupted_download_is_an_error(gateway: GatewayFixture, demo: httpx.AsyncClient) -> None:
    file_id = await upload(demo)
    gateway.retrieval.interrupt_downloads = True

    with pytest.raises(Exception, match="The object store does not answer"):
        await demo.get(f"/v1/files/{file_id}/content")


async def test_a_disconnect_cancels_a_download_even_when_the_client_had_stopped_reading(
    gateway: GatewayFixture, demo: httpx.AsyncClient
) -> None:
    cancelled = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x"
        finally:
            cancelled.set()

    file_id = await upload(demo)
    gateway.retrieval.download_content = endless
    request = RawRequest(gateway, f"/v1/files/{file_id}/content", b"", method="GET")
    assert (await request.next_message())["status"] == 200
    request.reading.clear()
    await run_loop()
    gc.disable()  # the collector would close the generator at some time
    try:
        request.disconnect()
        await request.task
        async with asyncio.timeout(30):
            await cancelled.wait()
    finally:
        gc.enable()


async def test_an_invalid_id_is_refused(demo: httpx.AsyncClient) -> None:
    response = await demo.get("/v1/files/file-%00")

    assert (response.status_code, response.json()["error"]["param"]) == (400, "file_id")


@pytest.mark.parametrize(
    "disposition",
    [
        "form-data; name=\"file\"; filename*=UTF-8''a%20b.txt",
        'form-data; name="file"; filename="a.txt"; filename*=UTF-8\'\'a%20b.txt',
        'form-data; name="file";filename*0="a"; filename*1=".txt"',
    ],
)
async def test_a_filename_in_extended_form_is_refused_with_what_is_wrong(
    demo: httpx.AsyncClient, disposition: str
) -> None:
    lines = [f"--{BOUNDARY}", f"content-disposition: {disposition}", "", "hello", f"--{BOUNDARY}--", ""]

    response = await demo.post(
        "/v1/files",
        content="\r\n".join(lines).encode(),
        headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    )

    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "filename*"
    assert "RFC 7578" in error["message"]


async def test_a_filename_that_looks_like_the_extended_form_is_a_filename(demo: httpx.AsyncClient) -> None:
    assert await upload(demo, "a; filename*=b.txt")
