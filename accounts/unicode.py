"""Letters younger than this Python's table of Unicode, told from what will never be one."""

import unicodedata

# Noncharacters, and unassigned ones that Unicode keeps for what nobody sees (Default_Ignorable_Code_Point of the Unicode
# Character Database).
_KEPT = (range(0x2065, 0x2066), range(0xFDD0, 0xFDF0), range(0xFFF0, 0xFFF9), range(0xE0000, 0xE1000))


def is_never_a_letter(char: str) -> bool:
    """Whether Unicode promises that `char` is no character, or one that nobody sees."""
    code = ord(char)
    # The last two of each plane are noncharacters, too.
    return code & 0xFFFE == 0xFFFE or any(code in kept for kept in _KEPT)


def is_younger_letter(char: str) -> bool:
    """Whether this Python does not know `char`, and a younger Unicode may: as good as any other letter."""
    return unicodedata.category(char) == "Cn" and not is_never_a_letter(char)
