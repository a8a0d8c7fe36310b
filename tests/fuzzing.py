"""How the fuzz tests try: the same examples in every run, bounded, and nothing of Hypothesis's left in the tree."""

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

from tests.servers import PROJECT

# Its Unicode tables take a second to compute, so they are kept, where pytest keeps such things.
set_hypothesis_home_dir(PROJECT / ".pytest_cache" / "d" / "hypothesis")


def examples(count: int) -> settings:
    """Settings for a test that tries `count` examples."""
    return settings(max_examples=count, derandomize=True, database=None, deadline=None)


SCHEMATHESIS = {"deterministic": True, "database": "none", "max-examples": 12}
"""The same in the words of schemathesis."""
