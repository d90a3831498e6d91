"""What runs when somebody opens it: by its name, and by how its bytes begin.

Programs and scripts cannot be given, alone or in a ZIP: who trusts a creator's models should not have to trust code. A
`.py` alone is refused like one in a ZIP; whoever needs to give one has better places for it.
"""

import re
from pathlib import PurePosixPath

# Windows runs these, or hands them to something that does.
_WINDOWS = """
appinstaller application appref-ms appx appxbundle bat bgi cdxml chm cmd com cpl diagcab dll drv exe gadget hlp hta inf
iqy isp jar jnlp js jse lnk mcf msc msh msi msix msixbundle msp mst ocx oqy pif ps1 ps1xml ps2 psc1 psc2 psd1 psm1 rdp
reg rqy scf scr sct search-ms searchconnector-ms settingcontent-ms shb shs sys themepack url vb vbe vbs vhd vhdx vxd
webpnp website wsc wsf wsh xbap xll
"""
# Documents that carry macros, by their own names for it.
_MACROS = "docm dotm potm ppam ppsm pptm sldm xlam xlsb xlsm xltm"
_MAC = """
app applescript command dmg fileloc inetloc ipa mobileconfig mpkg pkg prefpane scpt scptd terminal webloc workflow
"""
_LINUX_ANDROID = "apk appimage bash csh deb desktop fish flatpak flatpakref ksh rpm run sh snap zsh"
# Languages whose files run where their interpreter is installed.
_SCRIPTS = "ahk au3 class pl py pyc pyo pyw pyz pyzw rb tcl"
# Disks that open by themselves and whose programs bring no warning.
_DISKS = "img iso"
PROGRAMS = frozenset(f"{_WINDOWS} {_MACROS} {_MAC} {_LINUX_ANDROID} {_SCRIPTS} {_DISKS}".split())
# A folder that macOS shows as one thing and runs.
MAC_BUNDLE = re.compile(r"\.(action|app|mpkg|pkg|prefpane|saver|scptd|workflow)/contents/", re.IGNORECASE)
MAGIC = (
    b"\x7fELF",
    # Mach-O, plain and for several processors at once; the latter is Java's class file too.
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
    b"\xca\xfe\xba\xbf",
    # A Windows shortcut; packages of Debian, Red Hat, macOS; Android's code.
    b"L\x00\x00\x00\x01\x14\x02\x00",
    b"!<arch>\ndebian",
    b"\xed\xab\xee\xdb",
    b"xar!\x00",
    b"dex\n0",
)
SCRIPT = re.compile(rb"(\xef\xbb\xbf)?#! ?/")
# So much of a file's beginning is enough to know.
OPENING = 64


def is_program(path: str) -> bool:
    """Whether a double click on `path` would run something. A folder is no file, whatever it is called.

    Windows ignores dots and blanks at the end.
    """
    if MAC_BUNDLE.search(path):
        return True
    suffix = PurePosixPath(path.rstrip(". ")).suffix.casefold()[1:]
    return suffix in PROGRAMS and not path.endswith("/")


def begins_like_a_program(opening: bytes) -> bool:
    """Whether a file that begins with `opening` is a program, whatever it is called."""
    return (
        opening.startswith(MAGIC)
        or bool(SCRIPT.match(opening))
        or (opening[:2] in {b"MZ", b"ZM"} and b"\0" in opening[:OPENING])
    )
