"""The commands `mint-key` and `bootstrap`."""

import argparse
import sys
from collections.abc import Mapping, Sequence

from chassis.errors import ArgosyError
from values.roles import MEMBER, PLATFORM_ADMIN

from gateway.api_keys.bootstrap import Bootstrap
from gateway.auth.api_key import mint_key

MINT_KEY = "mint-key"
PLATFORM_TENANT = "platform"  # of the operators of the installation
DEMO_TENANT = "demo"
FIRST_KEYS = (("ARGOSY_ADMIN_KEY", PLATFORM_TENANT, {PLATFORM_ADMIN}), ("ARGOSY_API_KEY", DEMO_TENANT, {MEMBER}))


def print_new_key(arguments: Sequence[str]) -> int:
    """Print a new key. Needs no settings, because some settings are keys."""
    parser = argparse.ArgumentParser(prog=f"python -m gateway {MINT_KEY}", description=print_new_key.__doc__)
    parser.add_argument("--env", default="dev", help="environment in the key: argosy_<env>_…")
    try:
        _, text = mint_key(parser.parse_args(arguments).env)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(f"{text}\n")
    return 0


async def bootstrap_from_environment(bootstrap: Bootstrap, environ: Mapping[str, str]) -> int:
    """Ensure that the first tenants and keys exist; each key is in an environment variable."""
    for variable, tenant, roles in FIRST_KEYS:
        text = environ.get(variable)
        if not text:
            sys.stderr.write(f"{variable} is not set; make a key with `python -m gateway {MINT_KEY}`.\n")
            return 1
        try:
            key = await bootstrap.ensure(tenant, text, roles)
        except ArgosyError as error:
            sys.stderr.write(f"{variable}: {error.message}\n")
            return 1
        sys.stdout.write(f"tenant {tenant} is {key.tenant_id}, its key is {key.key_id}\n")
    return 0
