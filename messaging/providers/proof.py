"""What an exception proves, by the names of what it came from, whose libraries need not be there."""

# No connection came about, so nothing was offered: of urllib3, which `requests` and boto stand on, and of boto itself.
_NOT_CONNECTED = {
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ConnectTimeout",
    "ConnectionRefusedError",
    # The certificate is looked at before the first byte is sent.
    "SSLCertVerificationError",
    "EndpointConnectionError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "NoRegionError",
}
# Raised before anything goes out.
_NEVER_LEFT = {
    "AnymailInvalidAddress",
    "AnymailRecipientsRefused",
    "AnymailSerializationError",
    "AnymailUnsupportedFeature",
    "BadHeaderError",
}


def never_connected(error: BaseException) -> bool:
    """Whether no connection came about."""
    names = set()
    at: BaseException | None = error
    while at is not None and type(at).__name__ not in names:
        names.add(type(at).__name__)
        at = at.__cause__ or at.__context__
    return not _NOT_CONNECTED.isdisjoint(names)


def never_left(error: BaseException) -> bool:
    """Whether the mail was refused before it was handed to anybody."""
    return type(error).__name__ in _NEVER_LEFT


def in_one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:280]
