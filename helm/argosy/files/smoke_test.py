"""What `helm test` runs inside of the cluster: every service is ready, and the gateway knows its callers."""

import os
import sys
import urllib.error
import urllib.request

RELEASE = os.environ["RELEASE"]
SERVICES = ("gateway", "orchestrator", "inference-worker", "metering", "retrieval")
MODELS = f"http://{RELEASE}-gateway:8080/v1/models"


def status(url: str, key: str = "") -> int:
    """Return the HTTP status, or 0 when there is no answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        sys.stdout.write(f"{url}: {error}\n")
        return 0


checks = [(f"http://{RELEASE}-{name}:9090/readyz", "", 200) for name in SERVICES]
checks.append((MODELS, "", 401))
if os.environ.get("ARGOSY_API_KEY"):
    checks.append((MODELS, os.environ["ARGOSY_API_KEY"], 200))
failed = 0
for url, key, expected in checks:
    found = status(url, key)
    with_key = " with a key" if key else ""
    result = "ok" if found == expected else "FAILED"
    sys.stdout.write(f"{result:6} {url}{with_key} answered {found}, expected {expected}\n")
    failed += found != expected
sys.exit(1 if failed else 0)
