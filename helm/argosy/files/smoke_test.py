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


expected = {f"http://{RELEASE}-{name}:9090/readyz": ("", 200) for name in SERVICES}
expected[MODELS] = ("", 401)
if os.environ.get("ARGOSY_API_KEY"):
    expected[f"{MODELS}?with=key"] = (os.environ["ARGOSY_API_KEY"], 200)
failed = 0
for url, (key, wanted) in expected.items():
    found = status(url, key)
    sys.stdout.write(f"{'ok' if found == wanted else 'FAILED':6} {url} answered {found}, expected {wanted}\n")
    failed += found != wanted
sys.exit(1 if failed else 0)
