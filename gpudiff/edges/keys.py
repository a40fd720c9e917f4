"""Key files: who a program is (CURVE, RFC 26), and who may come in.

A folder of keys holds

NAME.key_secret           a key pair, mode 0600; never leaves its machine.  The service's own is called "service"
NAME.key                  its public half, to be given to the other side
allowed/frames/NAME.key       clients that may send frames
allowed/detections/NAME.key   differencers that may hand detections to this associator
allowed/alerts/NAME.key       brokers that may subscribe to its ZeroMQ sinks
associator.key            the associator's public key, on a differencer's machine; without it both have one pair
NAME.key                  that of one of several associators, where [service] associators says "key NAME" of it

Files are ZeroMQ certificates, as czmq and pyzmq write and read them too.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpudiff.edges.atomic import atomically
from gpudiff.edges.endpoint import beyond_this_machine
from gpudiff.edges.transport import ClientKeys, ServerKeys, new_pair
from gpudiff.model.config import Security
from gpudiff.model.errors import BadConfiguration, GpudiffError, StoreFailed

SERVICE = "service"
DOORS = ("frames", "detections", "alerts")
"""What an allowed client may send; alerts it may hear."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PUBLIC, SECRET = ".key", ".key_secret"
Z85 = r'"([0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40})"'
MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Pair:
    """One key; `secret` is None in a file that holds the public half only."""

    public: bytes
    secret: bytes | None = None


def make(folder: Path, name: str) -> tuple[Path, Path]:
    """(secret file, public file) of a new pair.

    Raises BadConfiguration for a name that is no plain file name, or has a key already; StoreFailed.
    """
    if not NAME.fullmatch(name):
        raise BadConfiguration(f"{name!r}: expected a name of letters, digits, '.', '_', '-', 64 at most")
    secret, public = folder / f"{name}{SECRET}", folder / f"{name}{PUBLIC}"
    if secret.exists() or public.exists():
        raise BadConfiguration(f"{secret}: expected a name without a key; remove the old one first")
    pair = new_pair()
    _make_folder(folder)
    _write(secret, "secret: keep it to yourself", 0o600, public_key=pair[0], secret_key=pair[1])
    _write(public, "public: give it to the other side", 0o644, public_key=pair[0])
    return secret, public


def read(path: Path) -> Pair:
    """The key in a file; raises BadConfiguration, also for a secret that others can read."""
    try:
        text = path.read_bytes()[:MAX_BYTES].decode("latin-1")
        mode = path.stat().st_mode
    except OSError as error:
        raise BadConfiguration(f"{path}: expected a key file (gpudiff keys): {error.strerror}") from None
    found = {half: re.search(rf"^\s*{half}-key\s*=\s*{Z85}", text, re.MULTILINE) for half in ("public", "secret")}
    public, secret = found["public"], found["secret"]
    if public is None:
        raise BadConfiguration(f'{path}: expected a key file, with a line public-key = "40 characters"')
    if secret is None:
        return Pair(public.group(1).encode())
    if mode & 0o077:
        raise BadConfiguration(
            f"{path}: expected a secret that nobody else can read (chmod 600), got {mode & 0o777:o}"
        )
    return Pair(public.group(1).encode(), secret.group(1).encode())


def allow(folder: Path, file: Path, door: str = "frames") -> Path:
    """Let the owner of a public key in; the file it is kept in.

    The copy holds the public half only.  Raises BadConfiguration, StoreFailed.
    """
    name = file.name.removesuffix(SECRET).removesuffix(PUBLIC)
    if not NAME.fullmatch(name) or door not in DOORS:
        raise BadConfiguration(f"{file}: expected NAME{PUBLIC}, for one of {DOORS}")
    kept = folder / "allowed" / door / f"{name}{PUBLIC}"
    pair = read(file)
    if kept.exists() and read(kept).public != pair.public:
        raise BadConfiguration(f"{kept}: another key is allowed under this name; remove it first")
    _make_folder(folder)
    _make_folder(kept.parent)
    _write(kept, "public", 0o644, public_key=pair.public)
    return kept


def allowed(folder: Path, door: str) -> dict[str, bytes]:
    """Name -> public key of those who may come in; a file that holds no key lets nobody in."""
    found = {}
    for path in sorted((folder / "allowed" / door).glob(f"[!.]*{PUBLIC}")):
        try:
            found[path.name.removesuffix(PUBLIC)] = read(path).public
        except BadConfiguration:
            continue
    return found


def own(folder: Path) -> dict[str, bytes]:
    """Name -> public key of the pairs in the folder."""
    return {path.name.removesuffix(SECRET): read(path).public for path in sorted(folder.glob(f"[!.]*{SECRET}"))}


def client_keys(secret: Path, server: Path | None = None) -> ClientKeys:
    """The keys of a client: its own pair, and the service's public key, `service.key` beside it by default.

    Raises BadConfiguration.
    """
    pair = read(secret)
    if pair.secret is None:
        raise BadConfiguration(f"{secret}: expected a secret key (NAME{SECRET}), got a public one")
    return ClientKeys(pair.public, pair.secret, read(server or secret.with_name(f"{SERVICE}{PUBLIC}")).public)


def server_keys(security: Security, endpoint: str, door: str) -> ServerKeys | None:
    """The keys of a socket to be bound at the endpoint; None where none are configured and none are needed.

    Who is allowed is looked up at each connection: allowing and removing a key needs no new start.
    Raises BadConfiguration for an endpoint beyond this machine without keys, unless that is configured.
    """
    if not security.keys:
        if beyond_this_machine(endpoint) and not security.insecure:
            raise BadConfiguration(
                f"{endpoint}: expected keys, for others can reach it: `gpudiff keys make {SERVICE}`, then "
                '[security] keys = "keys" (or insecure = true on a network where you trust everybody)'
            )
        return None
    folder = Path(security.keys)
    pair = read(folder / f"{SERVICE}{SECRET}")
    if pair.secret is None:
        raise BadConfiguration(f"{folder / SERVICE}{SECRET}: expected a secret key")
    fixed = {pair.public} if door == "detections" else set()

    def may_come_in(key: bytes) -> bool:
        try:
            return key in fixed or key in allowed(folder, door).values()
        except (GpudiffError, OSError):
            return False

    return ServerKeys(pair.public, pair.secret, may_come_in)


def warning(security: Security, endpoint: str) -> str:
    """What to say at the start of a service that asks for no keys although others can reach it; '' else."""
    if security.keys or not beyond_this_machine(endpoint):
        return ""
    return f"insecure: {endpoint} takes messages from everybody, unencrypted ([security] insecure = true)"


def associator_keys(security: Security, name: str = "") -> ClientKeys | None:
    """The keys of a differencer that connects to its associator; None where none are configured.

    name : of the associator's own public key, '' for associator.key or else the differencer's own.  Raises
    BadConfiguration, also for a name without keys.
    """
    if not security.keys:
        if name:
            raise BadConfiguration(f"[service] associators: key {name}: expected [security] keys, where it lies")
        return None
    if name and not NAME.fullmatch(name):
        raise BadConfiguration(f"[service] associators: expected the name of a key, got {name!r}")
    folder = Path(security.keys)
    common = folder / f"associator{PUBLIC}"
    shared = common if common.exists() else folder / f"{SERVICE}{PUBLIC}"
    return client_keys(folder / f"{SERVICE}{SECRET}", folder / f"{name}{PUBLIC}" if name else shared)


def keys_by_endpoint(security: Security, names: Mapping[str, str]) -> dict[str, ClientKeys | None]:
    """`associator_keys` of each endpoint.  names : endpoint -> name of its key"""
    return {endpoint: associator_keys(security, name) for endpoint, name in names.items()}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreFailed(f"{folder}: cannot be made: {error.strerror}") from None


def _write(path: Path, what: str, mode: int, **values: bytes) -> None:
    lines = [f"#   ZeroMQ certificate of gpudiff, {what}", "metadata", "curve"]
    lines += [f'    {name.replace("_", "-")} = "{value.decode()}"' for name, value in values.items()]
    with atomically(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w") as file:
            file.write("\n".join(lines) + "\n")
            os.fchmod(descriptor, mode)
