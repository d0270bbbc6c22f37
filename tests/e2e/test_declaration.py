"""`argosy.yaml` on the whole fleet: in, out, and the same again."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fleet.client import Fleet
from tests.fleet.environment import environment

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180), pytest.mark.xdist_group("simulator")]

SECRET = "sk-of-a-file-d41d8cd98f00b204"


async def command(service: str, *arguments: str, **variables: str) -> str:
    """Run a command of a service with the settings of the fleet; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "argosy_dev", "run", service, *arguments),
        env={**environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_a_file_is_put_in_force_once_and_comes_out_as_it_went_in(fleet: Fleet, tmp_path: Path) -> None:
    name, model = fleet.unique("up"), fleet.unique("sim-file")
    declared: dict[str, dict[str, Any]] = {
        "upstreams": {
            name: {
                "kind": "openai",
                "base_url": f"http://127.0.0.1:{fleet.simulator_port}/v1",
                "credentials": [{"label": "main", "secret_env": "SECRET_OF_A_FILE"}],
            }
        },
        "prices": {
            f"{name}/instant": {
                "input_per_million_usd": "1.25",
                "output_per_million_usd": "10",
                "classes_per_million_usd": {"cached_input": "0.125", "reasoning_output": "12.5"},
            }
        },
        "routes": {model: {"candidates": [{"upstream": name, "model": "instant"}], "sticky": True}},
        "flags": {f"model.{model}": {"rules": [{"variant": "off", "plans": ["no such plan"]}]}},
    }
    file = tmp_path / "argosy.yaml"
    file.write_text(yaml.safe_dump(declared))

    dry = await command("gateway", "apply", str(file), "--dry-run", SECRET_OF_A_FILE=SECRET)
    first = await command("gateway", "apply", str(file), SECRET_OF_A_FILE=SECRET)
    again = await command("gateway", "apply", str(file), SECRET_OF_A_FILE=SECRET)
    exported = yaml.safe_load(await command("gateway", "export"))
    file.write_text(yaml.safe_dump(exported))
    # Not in force: it would remove what other tests have made meanwhile.
    same = await command("gateway", "apply", str(file), "--prune", "--dry-run")

    made = [f"+ upstream {name}", f"+ credential main of {name} for *", f"+ price {name}/instant"]
    made += [f"+ route {model} of *", f"+ flag model.{model}"]
    assert dry.splitlines() == [*made, "5 changes would be made"]
    assert first.splitlines() == [*made, "5 changes"]
    assert again == "0 changes\n"
    assert not [line for line in same.splitlines() if name in line or model in line]
    del declared["upstreams"][name]["credentials"]
    for section, objects in declared.items():
        for key, wanted in objects.items():
            assert exported[section][key] == wanted, (section, key)
    assert SECRET not in str(exported)
    async with fleet.new_tenant("1") as tenant:
        await fleet.wait_until_listed(model)
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        answered = await tenant.post("/v1/chat/completions", json=body)
    assert answered.status_code == 200, answered.text


async def test_prices_of_litellms_map_are_put_in_force(fleet: Fleet, tmp_path: Path) -> None:
    upstream = fleet.unique("seeded")
    file = tmp_path / "prices.yaml"
    file.write_text(await command("inference-worker", "seed-prices", "openai", "gpt-4o", "--upstream", upstream))

    printed = await command("gateway", "apply", str(file))

    assert printed.splitlines() == [f"+ price {upstream}/gpt-4o", "1 changes"]
