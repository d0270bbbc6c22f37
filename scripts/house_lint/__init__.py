"""House rules that no off-the-shelf linter checks: file roles, vocabulary, money, tenancy, sizes.

Each rule is a function from one parsed file to its violations; `tests/contract/test_house_lint*.py` shows each of them
fail. `python -m scripts.house_lint` checks the whole tree, or the given paths.
"""
