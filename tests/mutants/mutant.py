"""A planted bug."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One planted bug.

    Args:
        bug: what is wrong.
        file: under fedjax_edu/.
        right: text of the file, that occurs once.
        wrong: what replaces it.
        tests: files that should notice.
        chosen: pytest's -k.
    """

    bug: str
    file: str
    right: str
    wrong: str
    tests: str
    chosen: str = ""
