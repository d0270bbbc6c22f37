"""`argosy.yaml` is read strictly, and what is written is read as the same."""

import pytest
from gateway.declaration.file import InvalidDeclaration, read_declaration, write_declaration

FILE = b"""
upstreams:
  openai:
    kind: openai
    base_url: https://api.example.com/v1
    capabilities: {tools: true, context_tokens: 400000}
    credentials:
      - {label: main, secret_env: OPENAI_API_KEY, weight: 3}
prices:
  openai/gpt:
    input_per_million_usd: "1.25"
    output_per_million_usd: "10"
    classes_per_million_usd: {cached_input: "0.125"}
routes:
  gpt:
    strategy: weighted
    candidates:
      - {upstream: openai, model: gpt, weight: 80, conditions: {countries: ["NO"]}}
tenants:
  ten_1:
    routes:
      gpt: {candidates: []}
flags:
  model.gpt: {rules: [{variant: "off", plans: [free]}]}
"""


def test_what_is_written_is_read_as_the_same() -> None:
    declaration = read_declaration(FILE)

    assert declaration.routes["gpt"].candidates[0].conditions.countries == ["NO"]
    assert set(declaration.all_routes()) == {("*", "gpt"), ("ten_1", "gpt")}
    assert read_declaration(write_declaration(declaration).encode()) == declaration


@pytest.mark.parametrize("text", [b"", b"{}", b"---\n", b"# nothing\n"])
def test_an_empty_file_declares_nothing(text: bytes) -> None:
    assert write_declaration(read_declaration(text)) == "{}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"upstreams: [", "no YAML"),
        (b"\xff\xfe\x00", "no YAML"),
        (b"- a", "the file"),
        (b"routers: {}", "routers"),
        (b"routes:\n  gpt: {candidates: []}\n  gpt: {candidates: []}\n", "line 3: 'gpt' stands there twice"),
        (b"routes: {no: {candidates: []}}", "False is no text; quote it"),
        (b"routes: {gpt: {candidates: [{upstream: a, model: '1', conditions: {countries: [NO]}}]}}", "countries"),
        (b"prices: {a/b: {input_per_million_usd: 1.25, output_per_million_usd: '1'}}", "input_per_million_usd"),
        (b"prices: {a/b: {classes_per_million_usd: {cached: '1'}}}", "classes_per_million_usd.cached"),
        (b"prices: {nobody: {input_per_million_usd: '1', output_per_million_usd: '1'}}", "prices.nobody"),
        (b"upstreams: {a: {kind: openai, base_url: 'http://a', api_key: sk-secret}}", "upstreams.a.api_key"),
        (b"upstreams: {a: {kind: openai, credentials: [{label: a, secret_env: 'sk-secret'}]}}", "secret_env"),
        (
            b"upstreams: {a: {kind: openai, credentials: [{label: a, secret_env: A}, {label: a, secret_env: B}]}}",
            "same label",
        ),
        (b"a: &a [*a]", "YAML|the file|a:"),
        (b"!!python/object/apply:os.system ['true']", "no YAML"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_quoted(text: bytes, words: str) -> None:
    with pytest.raises(InvalidDeclaration, match=words) as refused:
        read_declaration(text)

    assert "sk-secret" not in refused.value.message
