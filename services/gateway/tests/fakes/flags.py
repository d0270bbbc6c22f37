"""The orchestrator's flags, in memory."""

from typing import Any

import orjson
from argosy.orchestration.v1 import flags_pb2 as pb
from argosy.orchestration.v1.flags_pb2_grpc import FlagServiceServicer
from chassis.errors import ArgosyError, Kind, RemoteError
from chassis.tenancy import current_caller


def _with_killed(document: bytes, *, killed: bool) -> bytes:
    return orjson.dumps(orjson.loads(document) | {"killed": killed})


class FakeFlags(FlagServiceServicer):
    """Keeps documents without evaluating them. `failure` is raised while it is set."""

    def __init__(self) -> None:
        self.flags: dict[str, pb.Flag] = {}
        self.changes: list[tuple[str, pb.FlagChange]] = []
        self.off: set[str] = set()
        """Features that are off for all."""
        self.evaluated: list[pb.EvaluateFlagsRequest] = []
        self.failure: ArgosyError | None = None

    async def ListFlags(self, request: pb.ListFlagsRequest, context: Any) -> pb.ListFlagsResponse:
        return pb.ListFlagsResponse(flags=[self.flags[key] for key in sorted(self.flags)])

    async def GetFlag(self, request: pb.GetFlagRequest, context: Any) -> pb.GetFlagResponse:
        return pb.GetFlagResponse(flag=self._find(request.key))

    async def PutFlag(self, request: pb.PutFlagRequest, context: Any) -> pb.PutFlagResponse:
        stored = self.flags.get(request.key)
        version = 0 if stored is None else stored.version
        if request.HasField("expected_version") and request.expected_version != version:
            raise RemoteError(Kind.CONFLICT, "FLAG_VERSION_CONFLICT", "The flag was changed.", param="version")
        return pb.PutFlagResponse(
            flag=self._write(request.key, _with_killed(request.document, killed=False), request.reason)
        )

    async def ChangeFlag(self, request: pb.ChangeFlagRequest, context: Any) -> pb.ChangeFlagResponse:
        key = request.key
        if request.action == pb.FLAG_ACTION_DELETE:
            self._record(key, self._find(key).document, b"", request.reason)
            del self.flags[key]
            return pb.ChangeFlagResponse()
        if request.action == pb.FLAG_ACTION_ROLL_BACK:
            found = [one.after for of_key, one in self.changes if (of_key, one.version) == (key, request.version)]
            if not found:
                raise RemoteError(Kind.NOT_FOUND, "FLAG_NOT_FOUND", "There was no such version.", param="version")
            (document,) = found
        else:
            document = _with_killed(self._find(key).document, killed=request.action == pb.FLAG_ACTION_KILL)
        return pb.ChangeFlagResponse(flag=self._write(key, document, request.reason))

    async def ListFlagVersions(self, request: pb.ListFlagVersionsRequest, context: Any) -> pb.ListFlagVersionsResponse:
        found = [change for key, change in reversed(self.changes) if key == request.key]
        older = [change for change in found if not request.before or change.version < request.before]
        return pb.ListFlagVersionsResponse(changes=older[: request.limit], has_more=len(older) > request.limit)

    async def EvaluateFlags(self, request: pb.EvaluateFlagsRequest, context: Any) -> pb.EvaluateFlagsResponse:
        self.evaluated.append(request)
        return pb.EvaluateFlagsResponse(
            evaluations=[
                pb.FlagEvaluation(key="app.a", variant="", value=b'{"a":[1]}', reason="DISABLED"),
                pb.FlagEvaluation(key="feature.chat", variant="off", value=b"false", reason="KILLED"),
            ]
        )

    async def CheckFeature(self, request: pb.CheckFeatureRequest, context: Any) -> pb.CheckFeatureResponse:
        if self.failure is not None:
            raise self.failure
        if request.feature in self.off:
            message = f"The feature {request.feature!r} is switched off for you at the moment."
            raise RemoteError(Kind.DENIED, "FEATURE_DISABLED", message, param=f"feature.{request.feature}")
        return pb.CheckFeatureResponse()

    def _find(self, key: str) -> pb.Flag:
        if key not in self.flags:
            raise RemoteError(Kind.NOT_FOUND, "FLAG_NOT_FOUND", f"There is no flag {key!r}.", param="key")
        return self.flags[key]

    def _write(self, key: str, document: bytes, reason: str) -> pb.Flag:
        stored = self.flags.get(key)
        version = self._record(key, b"" if stored is None else stored.document, document, reason)
        self.flags[key] = pb.Flag(key=key, document=document, version=version)
        return self.flags[key]

    def _record(self, key: str, before: bytes, after: bytes, reason: str) -> int:
        author = current_caller().principal.key_id
        version = len(self.changes) + 1
        change = pb.FlagChange(version=version, before=before, after=after, author=author, reason=reason)
        self.changes.append((key, change))
        return version
