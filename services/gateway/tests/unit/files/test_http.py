"""`/v1/files`."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pytest

from services.gateway.tests.fakes.world import UPLOAD_BYTES, Visit, World, turns

BOUNDARY = "boundary"
MULTIPART = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """A part of a form."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


PURPOSE = part("purpose", b"assistants")
FILE = part("file", b"hello", "a.txt")


async def upload(client: httpx.AsyncClient, name: str = "a.txt", content: bytes = b"hello") -> str:
    """Store a file; its id."""
    answer = await client.post("/v1/files", files={"file": (name, content)}, data={"purpose": "assistants"})
    assert answer.status_code == 200, answer.text
    found: str = answer.json()["id"]
    return found


async def test_a_file_is_stored_and_shown_in_openais_shape(world: World, demo: httpx.AsyncClient) -> None:
    answer = await demo.post("/v1/files", files={"file": ("a.txt", b"hello")}, data={"purpose": "assistants"})

    assert answer.json() == {
        "id": answer.json()["id"],
        "object": "file",
        "bytes": 5,
        "created_at": 1767312000,
        "expires_at": None,
        "filename": "a.txt",
        "purpose": "assistants",
        "status": "processed",
        "status_details": None,
    }
    assert world.knowledge.shelves[world.tenants["demo"]].contents[answer.json()["id"]] == b"hello"


@pytest.mark.parametrize("body", [form(PURPOSE, FILE), form(FILE, PURPOSE), form(PURPOSE, FILE, part("x", b"y"))])
async def test_the_purpose_may_come_before_the_file_or_after_it(
    world: World, demo: httpx.AsyncClient, body: bytes
) -> None:
    answer = await demo.post("/v1/files", content=body, headers=MULTIPART)

    assert answer.status_code == 200
    (file,) = world.knowledge.shelves[world.tenants["demo"]].files.values()
    assert (file.filename, file.purpose, file.size_bytes) == ("a.txt", "assistants", 5)


@pytest.mark.parametrize("order", [(PURPOSE, FILE), (FILE, PURPOSE)])
async def test_a_file_is_the_same_however_the_network_cuts_it(
    world: World, demo: httpx.AsyncClient, order: tuple[bytes, bytes]
) -> None:
    content = bytes(range(256)) + b"\r\n--bound" * 20
    body = form(*(PURPOSE if one is PURPOSE else part("file", content, "a.bin") for one in order))

    async def letters() -> AsyncIterator[bytes]:
        for letter in body:
            yield bytes([letter])

    answer = await demo.post("/v1/files", content=letters(), headers=MULTIPART)

    assert answer.status_code == 200
    (stored,) = world.knowledge.shelves[world.tenants["demo"]].contents.values()
    assert stored == content


async def test_a_file_passes_through_without_being_held(world: World) -> None:
    handed: list[int] = []
    keep = world.knowledge.upload

    async def watched(filename: str, purpose: str, content: AsyncIterator[bytes]) -> object:
        async def counted() -> AsyncIterator[bytes]:
            async for piece in content:
                handed.append(len(piece))
                yield piece

        return await keep(filename, purpose, counted())

    world.knowledge.upload = watched  # type: ignore[method-assign,assignment]
    head = PURPOSE + part("file", b"", "a.txt")[:-2]
    visit = Visit(world, "/v1/files", b"", headers=MULTIPART)
    visit.feed(head, *[b"x" * 100] * 9, f"\r\n--{BOUNDARY}--\r\n".encode(), more=False)
    await visit.body()

    assert len(handed) >= 9  # as many pieces as the network brought
    assert max(handed) <= 100


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(PURPOSE), "file"),
        (form(FILE), "purpose"),
        (form(FILE, part("purpose", b"world domination")), "purpose"),
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
async def test_a_form_that_makes_no_sense_is_refused_and_nothing_is_stored(
    world: World, demo: httpx.AsyncClient, body: bytes, param: str | None
) -> None:
    answer = await demo.post("/v1/files", content=body, headers=MULTIPART)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == param
    assert not any(shelf.files for shelf in world.knowledge.shelves.values())


@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300, ""]
)
async def test_a_body_that_is_no_form_is_refused(demo: httpx.AsyncClient, content_type: str) -> None:
    answer = await demo.post("/v1/files", content=b"{}", headers={"content-type": content_type})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("order", [(PURPOSE, "file"), ("file", PURPOSE)])
async def test_a_file_that_is_too_large_is_refused_and_not_stored(
    world: World, demo: httpx.AsyncClient, order: tuple[bytes | str, ...]
) -> None:
    large = part("file", b"x" * (UPLOAD_BYTES + 1), "a.txt")
    body = form(*(large if isinstance(one, str) else one for one in order))

    answer = await demo.post("/v1/files", content=body, headers=MULTIPART)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert not any(shelf.files for shelf in world.knowledge.shelves.values())


async def test_a_path_in_the_name_is_cut_off(demo: httpx.AsyncClient) -> None:
    for name in ("C:\\secret\\a.txt", "/etc/a.txt", "../../a.txt"):
        body = form(PURPOSE, part("file", b"x", name.replace("\\", "\\\\")))
        answer = await demo.post("/v1/files", content=body, headers=MULTIPART)
        assert answer.json()["filename"] == "a.txt"


async def test_names_are_taken_in_any_language(demo: httpx.AsyncClient) -> None:
    # As a Mac names its pictures: with a narrow space that cannot be broken.
    for name in ("Screenshot 2026-01-01 at 9.41.00\u202fPM.png", "größe.txt", "図面.pdf"):
        assert (await demo.get(f"/v1/files/{await upload(demo, name)}")).json()["filename"] == name


async def test_what_follows_the_end_of_a_form_is_not_waited_for(world: World) -> None:
    visit = Visit(world, "/v1/files", b"", headers=MULTIPART)
    visit.feed(form(PURPOSE, FILE), b"and so on")

    assert (await visit.next())["status"] == 200


async def test_a_client_that_leaves_while_it_uploads_stores_nothing(world: World) -> None:
    visit = Visit(world, "/v1/files", b"", headers=MULTIPART)
    visit.feed(PURPOSE, FILE[:-4])
    visit.leave()
    async with asyncio.timeout(5):
        await visit.task

    assert not any(shelf.files for shelf in world.knowledge.shelves.values())


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
async def test_a_page_that_cannot_be_had_is_refused(
    demo: httpx.AsyncClient, params: dict[str, str | int], param: str
) -> None:
    answer = await demo.get("/v1/files", params=params)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert answer.json()["error"]["code"] == "invalid_request"


async def test_a_file_is_read_downloaded_and_deleted(demo: httpx.AsyncClient) -> None:
    file_id = await upload(demo, 'résumé "1".txt', b"hello")

    assert (await demo.get(f"/v1/files/{file_id}")).json()["bytes"] == 5
    content = await demo.get(f"/v1/files/{file_id}/content")
    assert content.content == b"hello"
    assert content.headers["content-length"] == "5"
    assert content.headers["x-request-id"].startswith("req_")
    assert "r%C3%A9sum%C3%A9" in content.headers["content-disposition"]

    assert (await demo.delete(f"/v1/files/{file_id}")).json() == {"id": file_id, "object": "file", "deleted": True}
    for answer in (await demo.get(f"/v1/files/{file_id}"), await demo.delete(f"/v1/files/{file_id}")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


async def test_an_empty_file_is_a_file(demo: httpx.AsyncClient) -> None:
    file_id = await upload(demo, content=b"")

    assert (await demo.get(f"/v1/files/{file_id}/content")).content == b""


async def test_another_tenants_file_is_not_found(demo: httpx.AsyncClient, other: httpx.AsyncClient) -> None:
    file_id = await upload(demo)

    for answer in (
        await other.get(f"/v1/files/{file_id}"),
        await other.get(f"/v1/files/{file_id}/content"),
        await other.delete(f"/v1/files/{file_id}"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")
    assert (await other.get("/v1/files")).json()["data"] == []


async def test_a_download_that_breaks_off_is_not_taken_for_whole(world: World, demo: httpx.AsyncClient) -> None:
    file_id = await upload(demo)
    world.knowledge.cut_downloads = True

    with pytest.raises(Exception, match="The store went away"):
        await demo.get(f"/v1/files/{file_id}/content")


async def test_a_client_that_leaves_a_download_ends_it_even_when_it_had_stopped_reading(
    world: World, demo: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def endless(_: str) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x"
        finally:
            ended.set()

    file_id = await upload(demo)
    monkeypatch.setattr(world.knowledge, "download", endless)
    visit = Visit(world, f"/v1/files/{file_id}/content", b"", method="GET")
    assert (await visit.next())["status"] == 200
    visit.reading.clear()
    await turns()
    gc.disable()  # it would tidy up, but nobody knows when
    try:
        visit.leave()
        await visit.task
        await turns()
        assert ended.is_set()
    finally:
        gc.enable()


async def test_an_id_that_cannot_be_one_is_refused(demo: httpx.AsyncClient) -> None:
    answer = await demo.get("/v1/files/file-%00")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file_id")
