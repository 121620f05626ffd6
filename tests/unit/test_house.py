"""What the tests' folders must keep to."""

from collections import Counter
from pathlib import Path


def test_each_test_file_has_a_name_of_its_own() -> None:
    """pytest refuses two of one name, and `make soak` collects all folders at once."""
    names = Counter(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]
