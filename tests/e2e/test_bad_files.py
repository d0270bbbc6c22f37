"""A file that cannot be indexed fails with an error code, and does not affect other files."""

import asyncio
import io
import zipfile
from typing import Any

import httpx
import pytest
from fpdf import FPDF
from pypdf import PdfReader, PdfWriter

from tests.fleet.client import Fleet

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180), pytest.mark.xdist_group("public-api")]


def pdf(text: str = "A page about ships.") -> bytes:
    """A PDF of one page."""
    document = FPDF()
    document.add_page()
    document.set_font("Helvetica", size=12)
    document.cell(text=text)
    return bytes(document.output())


def encrypted_pdf() -> bytes:
    """A PDF that needs a password."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf())))
    writer.encrypt("secret", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def zip_bomb() -> bytes:
    """A DOCX of some megabytes that expands to two gigabytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            for _ in range(2_000):
                part.write(b"\0" * 1_000_000)
        archive.writestr("[Content_Types].xml", "<Types/>")
    return out.getvalue()


BAD = {
    "encrypted": ("locked.pdf", encrypted_pdf, {"encrypted_file"}),
    "truncated": ("half.pdf", lambda: pdf()[:300], {"unreadable_file"}),
    "wrong extension": (
        "picture.pdf",
        lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 500,
        {"file_type_mismatch", "unreadable_file"},
    ),
    "unsupported": ("movie.mp4", lambda: b"\0\0\0\x18ftypmp42" + b"\0" * 100, {"unsupported_file"}),
    "binary as text": ("noise.txt", lambda: bytes(range(256)) * 40, {"file_type_mismatch", "unreadable_file"}),
    "empty": ("blank.txt", lambda: b"  \n ", {"empty_file"}),
    "zip bomb": ("bomb.docx", zip_bomb, {"file_expands_too_much"}),
    "100 MB": ("big.txt", lambda: b"All work and no play. " * 4_800_000, {"file_too_large"}),
}


async def index(http: httpx.AsyncClient, store: str, name: str, content: bytes) -> dict[str, Any]:
    """Upload and attach a file; return its attachment when ingestion has ended."""
    file = await http.post("/v1/files", files={"file": (name, content)}, data={"purpose": "assistants"})
    assert file.status_code == 200, file.text
    await http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file.json()["id"]})
    async with asyncio.timeout(120):
        while True:
            attachment: dict[str, Any] = (await http.get(f"/v1/vector_stores/{store}/files/{file.json()['id']}")).json()
            if attachment["status"] != "in_progress":
                return attachment
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_file_fails_with_an_error_code_and_a_good_one_after_it_is_found(fleet: Fleet, case: str) -> None:
    name, content, reasons = BAD[case]
    async with httpx.AsyncClient(base_url=fleet.base_url, headers=fleet.as_tenant, timeout=120) as http:
        store = (await http.post("/v1/vector_stores", json={"name": case})).json()["id"]
        attachment = await index(http, store, name, content())
        assert attachment["status"] == "failed", attachment
        assert attachment["last_error"]["code"] in reasons
        assert len(attachment["last_error"]["message"]) > 10

        assert (await index(http, store, "good.pdf", pdf()))["status"] == "completed"
        found = (await http.post(f"/v1/vector_stores/{store}/search", json={"query": "ships"})).json()["data"]
        assert "ships" in found[0]["content"][0]["text"]
        counts = (await http.get(f"/v1/vector_stores/{store}")).json()["file_counts"]
        assert (counts["completed"], counts["failed"]) == (1, 1)
