"""The processes of a container, but for this one: run by `python -c` in it; prints a line of JSON."""

import json
import os
from pathlib import Path
from typing import Any

STATUS = ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")


def described(folder: Path) -> dict[str, Any]:
    fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    status = {name: fields[name].strip() for name in STATUS}
    return {"pid": folder.name, "parent": fields["PPid"].strip(), "command": command, **status}


found = []
for one in Path("/proc").iterdir():
    if one.name.isdigit() and int(one.name) != os.getpid():
        try:
            found.append(described(one))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
print(json.dumps(found))
